"""Training curves as TensorBoard events; the one module that imports tensorboardX, and only while training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CURVES = ("loss", "train_accuracy", "learning_rate", "validation_accuracy", "validation_robust_accuracy")


class Events:
    """Writes into ``folder``; nothing where tensorboardX is not installed.

    :param done: epochs that stand there already; curves of a resumed training go on after them.
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
        """Whether anything is written."""
        return self._writer is not None

    def add(self, epoch: dict[str, Any]) -> None:
        """The curves' points of one epoch."""
        if self._writer is not None:
            for name in CURVES:
                if name in epoch:
                    self._writer.add_scalar(name, epoch[name], epoch["epoch"])
            self._writer.flush()

    def close(self) -> None:
        """What was added is on disk."""
        if self._writer is not None:
            self._writer.close()
