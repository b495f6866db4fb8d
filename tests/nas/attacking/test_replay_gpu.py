"""Attacks with the model's passes as CUDA graphs against plain ones, on a GPU: ``make gpu``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from nas.attacking.evaluation import evaluate
from nas.models.checkpoint import read_checkpoint
from nas.training.replay import CudaRecorder
from tests.nas.attacking.members import only_member
from tests.nas.attacking.test_replay import Reading
from tests.nas.trained_networks import sample_images, small_network, trained_checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NAMES = ["pgd-30", "apgd-ce", "apgd-t", "fab", "fab-t", "square", "cw"]


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels that round in the same way each time, and shapes that are recorded soon."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr("nas.attacking.replay.PLAIN", 4)
    yield


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nn.Module]:
    folder: Path = tmp_path_factory.mktemp("checkpoints")
    cells = {
        family: read_checkpoint(trained_checkpoint(folder / f"{family}.pt", family)).classifier().cuda()
        for family in ("darts", "nasbench201")
    }
    return {"plain": small_network().cuda(), **cells}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each recording."""
    made: list[Any] = []
    record = CudaRecorder.record
    monkeypatch.setattr(CudaRecorder, "record", lambda *given: (made.append(given), record(*given))[1])
    return made


def verdicts(model: nn.Module, *attacks: Any, graphs: bool, **options: Any) -> list[list[bool]]:
    images, labels = sample_images(60)
    words: dict[str, Any] = {"epsilon": 0.1, "batch": 40, "checks": False, **options}
    result = evaluate(model, images, labels, list(attacks), cuda_graphs=graphs, **words)
    return [each.correct.tolist() for each in result.results]


@pytest.mark.parametrize(
    ("network", "norm"), [("plain", "L2"), ("darts", "Linf"), ("darts", "L2"), ("nasbench201", "Linf")]
)
@pytest.mark.usefixtures("few_steps")
def test_verdicts_are_the_same(
    network: str,
    norm: Literal["Linf", "L2"],
    networks: dict[str, nn.Module],
    recorded: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ball: dict[str, Any] = {"norm": norm, "epsilon": 0.1 if norm == "Linf" else 1.0}
    attacks = [only_member(name, **ball) for name in NAMES]
    found = verdicts(networks[network], *attacks, graphs=True, **ball)
    count = len(recorded)
    assert count >= 2 and capsys.readouterr().err == ""
    assert found == verdicts(networks[network], *attacks, graphs=False, **ball) and len(recorded) == count


def test_autoattack_finds_the_same(networks: dict[str, nn.Module], recorded: list[Any]) -> None:
    options: dict[str, Any] = {"epsilon": 0.05, "autoattack_steps": 20}
    found = verdicts(networks["darts"], "autoattack", graphs=True, **options)
    assert recorded and found == verdicts(networks["darts"], "autoattack", graphs=False, **options)


class ReadingClassifier(Reading):
    """Ten logits on the device of its parameter; no graph can record it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 10, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) @ self.weight


def test_a_model_that_cannot_be_recorded_is_attacked_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    model = ReadingClassifier().cuda()
    found = verdicts(model, "pgd-20", graphs=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("warning: attacks run without CUDA graphs, recording one failed: ")
    assert found == verdicts(model, "pgd-20", graphs=False)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
