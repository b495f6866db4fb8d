"""Logits that are not finite: a model that returns them has no accuracy, although ``argmax`` gives a class."""

from __future__ import annotations

from torch import Tensor

_SHOWN = 4


def not_finite(logits: Tensor) -> tuple[int, str] | None:
    """The first row of ``logits`` ``(N, classes)`` that is not finite, and its first values; None if all are finite."""
    finite = logits.isfinite().all(1)
    if bool(finite.all()):
        return None
    row = int(finite.logical_not().nonzero()[0])
    shown = [f"{value:g}" for value in logits[row].tolist()[:_SHOWN]]
    return row, ", ".join([*shown, *["..."] * (logits.shape[1] > _SHOWN)])
