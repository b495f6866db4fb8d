"""A training whose machine fails under it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nas.errors import MachineFailed, Unwritable
from nas.models.checkpoint import Checkpoint
from nas.training import TrainConfig, Trainer
from tests.nas.training.small import EVERYTHING, TINY, assert_equal, trained

pytestmark = pytest.mark.usefixtures("somewhere_else")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemoryError: CUDA out of memory"),
        (Unwritable("run/train/last.pt cannot be written: No space left on device"), "No space left on device"),
    ],
)
def test_a_machine_that_fails_interrupts_and_can_be_gone_on_with(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = Checkpoint.save, []

    def failing(self: Checkpoint, path: Path) -> None:
        saved.append(path)
        if path.name == "last.pt" and self.facts["epoch"] == 2:
            raise error
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", failing)
        with pytest.raises((MachineFailed, Unwritable)) as raised:
            trained("run", **EVERYTHING)
    assert f"{said}; stopped after 1 of 4 epochs; to go on: python -m nas.train --resume run" in str(raised.value)
    manifest = json.loads(Path("run/train/config.json").read_text())
    assert manifest["status"] == "interrupted" and manifest["summary"]["epochs"] == 1
    Trainer(TrainConfig(**{**TINY, **EVERYTHING}), out="run", resume=True).run()
    assert_equal(Path("run"), trained("whole", **EVERYTHING), "last.pt")
