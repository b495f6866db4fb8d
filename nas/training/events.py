"""Training curves as TensorBoard events. Only this module imports tensorboardX, and only when a training starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CURVES = ("loss", "train_accuracy", "learning_rate", "validation_accuracy", "validation_robust_accuracy")


class Events:
    """Writes events into ``folder``; if tensorboardX is not installed, nothing is written.

    :param done: number of epochs already recorded there; the curves of a resumed training continue after them.
    """

    def __init__(self, folder: Path, done: int):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    @property
    def available(self) -> bool:
        """Whether events are written, that is, tensorboardX is installed."""
        return self._writer is not None

    def add(self, epoch: dict[str, Any]) -> None:
        """Write one point of each curve, for one epoch."""
        if self._writer is not None:
            for name in CURVES:
                if name in epoch:
                    self._writer.add_scalar(name, epoch[name], epoch["epoch"])
            self._writer.flush()

    def close(self) -> None:
        """Close the file; everything added is then on disk."""
        if self._writer is not None:
            self._writer.close()
