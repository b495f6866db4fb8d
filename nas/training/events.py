"""Curves of trainings and searches as TensorBoard events. Only this module imports tensorboardX, when it is used.

Events are written in the calling thread, so that a full disk is noticed here. The curves are optional: if they cannot
be written, the user is warned once and the work goes on without them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CURVES = ("loss", "train_accuracy", "learning_rate", "validation_accuracy", "validation_robust_accuracy")


class Events:
    """Writes events into ``folder``; if tensorboardX is not installed, nothing is written.

    :param done: number of records already there; the curves of what is resumed continue after them.
    :param step: the name of the field that counts the records. With ``epoch``, those of a training, the curves are
        ``CURVES``; otherwise all other numbers.
    """

    def __init__(self, folder: Path, done: int, step: str = "epoch"):
        self.folder = folder
        self._step = step
        self.available = True  # whether tensorboardX is installed
        self._writer: Any = None
        try:
            from tensorboardX import event_file_writer
        except ImportError:
            self.available = False
            return
        with self._optional():
            self._writer = event_file_writer.EventsWriter(str(folder / "events"))
            if done:  # TensorBoard drops the points of an earlier process from this step on
                self._write(step=done + 1, file_version="brain.Event:2")
                self._write(step=done + 1, session_log={"status": "START"})

    def add(self, record: dict[str, Any], distributions: Mapping[str, Any] | None = None) -> None:
        """Write one point of each curve, and each of the distributions, which are numbers in lists."""
        if self._writer is None:
            return
        import numpy as np
        from tensorboardX.summary import histogram, scalar

        names = CURVES if self._step == "epoch" else [name for name in record if name != self._step]
        with self._optional():
            for name in names:
                if name in record:
                    self._write(step=record[self._step], summary=scalar(name, record[name]))
            for name, values in (distributions or {}).items():
                self._write(step=record[self._step], summary=histogram(name, np.array(values), bins=30))
            self._writer.flush()

    def close(self) -> None:
        """Close the file; everything added is then on disk."""
        if self._writer is not None:
            with self._optional():
                self._writer.close()

    def _write(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), **fields))

    @contextmanager
    def _optional(self) -> Iterator[None]:
        """A context in which an error of the operating system ends the curves, with a warning, and nothing else."""
        try:
            yield
        except OSError as error:
            failed, self._writer = self._writer, None
            with suppress(OSError, AttributeError):  # its own close() flushes first, so would leave the file open
                failed._py_recordio_writer.close()
            print(f"warning: no more TensorBoard events in {self.folder}: {error.strerror or error}", file=sys.stderr)
