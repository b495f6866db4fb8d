"""The files of a training, in the ``train`` folder of a run directory; a training is resumed from them.

``config.json`` (configuration, architecture, versions, hardware, data fingerprint), ``metrics.jsonl`` (one epoch per
line), the checkpoints ``best.pt`` and ``last.pt``, and TensorBoard events. Only one process at a time may write to the
folder. Its lock is released when that process ends, even if it is killed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.files import kind, write
from nas.models.checkpoint import EPOCH, TRAIN
from nas.runs.directory import read_manifest, write_json
from nas.runs.json_lines import JsonLines, locked
from nas.runs.schema import COUNT, OBJECT, SWITCH, TEXT, WHOLE, Check, each, fields, maybe

CONFIG = "config.json"
METRICS = "metrics.jsonl"
FORMAT = 1
_OWN: dict[str, Check] = {
    "configuration": fields({}, {"space": maybe(TEXT), "channels": maybe(COUNT), "layers": maybe(COUNT)}),
    "architecture": OBJECT,
    "params": WHOLE,
    "macs": WHOLE,
    "data": fields(
        {"classes": each(TEXT), "image_size": each(COUNT)},
        {"name": TEXT, "fingerprint": TEXT, "train_images": WHOLE, "validation_images": WHOLE},
    ),
    "summary": fields({}, {"epochs": WHOLE, "best": maybe(EPOCH)}),
    "tensorboard": SWITCH,
}


class TrainDirectory:
    """The folder ``run/train``, locked while the object is open.

    :raises UserError: it cannot be written, or another process writes to it.
    """

    def __init__(self, run: Path):
        self.path = run / TRAIN
        self._lock = locked(self.path / ".lock", str(self.path))
        self._metrics = JsonLines(self.path / METRICS, "no epoch", "epoch")

    def __enter__(self) -> TrainDirectory:
        return self

    def __exit__(self, *exception: object) -> None:
        self._metrics.close()
        self._lock.release()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace ``config.json`` atomically."""
        write_json(self.path / CONFIG, {"format": FORMAT, **manifest})

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Replace ``metrics.jsonl`` by one line per epoch of ``history``; surplus or incomplete lines are removed."""
        write(self.path / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in history))

    def append_metrics(self, epoch: dict[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        self._metrics.append(epoch)


def holds_training(run: Path) -> bool:
    """Whether a training was started in ``run``."""
    return kind(run / TRAIN / CONFIG) is not None


def read_training(run: Path) -> dict[str, Any]:
    """The manifest of the training in ``run``.

    :raises UserError: there is none, or it cannot be read.
    """
    if not holds_training(run):
        raise UserError(f"{run} holds no training to go on with: expected {run / TRAIN / CONFIG}")
    return read_manifest(run / TRAIN, CONFIG, command="train", own=_OWN)
