"""TensorBoard's curves of a training."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.nas.training.small import trained

pytestmark = pytest.mark.usefixtures("somewhere_else")


def test_curves_that_cannot_be_written_warn_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    event_file_writer = pytest.importorskip("tensorboardX.event_file_writer")

    def full(self: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(event_file_writer.EventsWriter, "flush", full)
    trained("run", epochs=2)
    said = capsys.readouterr().err
    assert said == "warning: no more TensorBoard events in run/train: No space left on device\n"
    assert json.loads(Path("run/train/config.json").read_text())["status"] == "finished"


def test_curves_are_read_by_tensorboard() -> None:
    loader = pytest.importorskip("tensorboardX.proto.event_pb2")
    trained("run", epochs=2)
    (path,) = Path("run/train").glob("events*")
    content, events = path.read_bytes(), []
    while content:  # each record: length in 8 bytes, 4 of its checksum, the event, 4 of its checksum
        size = int.from_bytes(content[:8], "little")
        events.append(loader.Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    values = [(event.step, value) for event in events for value in event.summary.value]
    losses = {step: value.simple_value for step, value in values if value.tag == "loss"}
    stored = [json.loads(line) for line in Path("run/train/metrics.jsonl").read_text().splitlines()]
    assert losses == {each["epoch"]: pytest.approx(each["loss"]) for each in stored}
