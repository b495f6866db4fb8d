"""Checks that proxies share.

Those of a batch and of an option raise a ValueError that says what was got and what is expected; those of a value that
was computed raise a ProxyError, since no other proxy is to blame for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, get_args

import torch
from torch import Tensor, nn

from proxies.engine.modes import NormMode, uses_batch_statistics
from proxies.errors import ProxyError


def error_of(check: Callable[[], None]) -> ProxyError | None:
    """The ProxyError that a check raises, or None."""
    try:
        check()
    except ProxyError as error:
        return error
    return None


def finite(value: float, what: str) -> float:
    """``value``, if it is a finite number.

    :raises ProxyError: it is not; ``what`` names it in the message.
    """
    if not math.isfinite(value):
        raise ProxyError(f"{what} is {value}, expected a finite number")
    return value


def log_or_error(value: float, what: str) -> float:
    """The natural logarithm of a positive finite number.

    :raises ProxyError: ``value`` is none; ``what`` names it in the message.
    """
    if not (math.isfinite(value) and value > 0):
        raise ProxyError(f"{what} is {value}, expected a positive number")
    return math.log(value)


def check_not_rounding(total: float, parts: float, dtype: torch.dtype, what: str) -> None:
    """Refuse a gradient that would be zero in exact arithmetic.

    The logits of a batch, summed over its images, are constant if every path to them ends in a batch norm that uses the
    statistics of the batch, as in a stack of cells without a pooling in the last cell: the mean of each channel is then
    the norm's bias. The gradients of the images' own logits cancel, and what is left of them is rounding.

    The bound on ``total / parts`` is the square root of the machine epsilon: 3.5e-4 in float32, 1.5e-8 in float64.
    Measured on random cells of the DARTS space and NAS-Bench-201, on cells of Tiny-RobustBench and NAS-RobBench-201 and
    on the published ones: where the sum is constant, the ratio was 1e-7 to 2e-6 in float32 (20 networks) and 1e-16 to
    5e-16 in float64 (15); elsewhere it was at least 0.018 in float32 (296) and 0.034 in float64 (121). For the flow of
    ``synflow_bn``, in float64, it was at most 3e-14 and at least 0.015.

    :param total: the size of the gradient of the sum.
    :param parts: the size of the gradient of the same terms, every second of them with the opposite sign. If the terms
        have gradients of random directions, both sizes are alike.
    :param dtype: in which the gradients were computed.
    :raises ProxyError: ``total`` is rounding; ``what`` names the sum in the message.
    """
    bound = math.sqrt(torch.finfo(dtype).eps)
    if parts > 0 and total <= bound * parts:
        raise ProxyError(
            f"the gradient of {what} is rounding, {total / parts:.1e} of that of its terms, expected more than"
            f" {bound:.1e}: with batch statistics in all batch norms before the logits, the sum is constant; norm=eval"
            " uses running statistics"
        )


def check_batch(network: nn.Module, norm: NormMode, images: int) -> None:
    """Refuse gradients of a single image that is normalised by its own statistics.

    Its logits are constant in the cases that :func:`check_not_rounding` describes, whatever the image is; so is its
    loss.

    :raises ProxyError: ``images`` is 1, and a batch norm uses the statistics of the batch.
    """
    if images == 1 and uses_batch_statistics(network, norm):
        raise ProxyError(
            "batch norms that use the statistics of a single image: expected at least 2 images a batch, or norm=eval"
        )


def check_at_least(least: int, **counts: int | None) -> None:
    """:raises ValueError: one of the counts is no whole number from ``least``; None stands for a default."""
    for name, count in counts.items():
        if count is not None:
            _check_number(name, count, Integral, "a whole number")
            if count < least:
                raise ValueError(f"{name} must be at least {least}, got {count}")


def check_positive(**numbers: float) -> None:
    """:raises ValueError: one of the numbers is not finite, or not above 0."""
    for name, number in numbers.items():
        _check_number(name, number, Real, "a number above 0")
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a number above 0, got {number}")


def check_seed(seed: int) -> None:
    """:raises ValueError: a generator cannot be seeded with ``seed``."""
    _check_number("seed", seed, Integral, "a whole number")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be from 0 to 2^63 - 1, got {seed}")


def _check_number(name: str, value: Any, kind: type, words: str) -> None:
    """:raises ValueError: ``value`` is no number of that kind; numpy's numbers are."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} must be {words}, got {value!r:.60}")


def check_word(name: str, word: str, literal: Any) -> None:
    """:raises ValueError: ``word`` is none of the words of ``literal``, such as ``Literal["eval", "train"]``."""
    words = get_args(literal)
    if word not in words:
        raise ValueError(f"{name} must be {' or '.join(words)}, got '{word}'")


def check_images(images: Tensor) -> None:
    """:raises ValueError: a pixel is no floating-point number in [0, 1]."""
    if not images.is_floating_point():
        bytes_ = "; divide bytes by 255" if images.dtype == torch.uint8 else ""
        raise ValueError(f"images must be floating-point numbers in [0, 1], got {images.dtype}{bytes_}")
    wrong = images[~images.isfinite()]
    if len(wrong):
        raise ValueError(f"images must be finite, got {len(wrong)} values that are not, such as {wrong[0].item()}")
    least, most = (each.item() for each in images.aminmax())
    if least < 0 or most > 1:
        raise ValueError(f"images must lie in [0, 1], got values from {least:.4g} to {most:.4g}")


def check_labels(labels: Tensor, classes: int) -> None:
    """:raises ValueError: the labels are not int64 ``(N,)``, or one lies outside of [0, classes)."""
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(f"labels must be int64 of shape (N,), got {labels.dtype} of shape {tuple(labels.shape)}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        expected = f"from 0 to {classes - 1}, as the network has {classes} classes"
        raise ValueError(f"labels must be {expected}, got {wrong[0]}")
