"""Whether a batch is one that proxies can look at; each check is a ValueError that says what is wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from proxies.engine.modes import norm_mode


def check_images(images: Tensor) -> None:
    """Whether all pixels are floating-point numbers in [0, 1]."""
    if not images.is_floating_point():
        raise ValueError(f"images must be floating-point numbers in [0, 1], got {images.dtype}")
    wrong = images[~images.isfinite()]
    if len(wrong):
        raise ValueError(f"images must be finite, got {len(wrong)} values that are not, such as {wrong[0].item()}")
    least, most = (each.item() for each in images.aminmax())
    if least < 0 or most > 1:
        raise ValueError(f"images must lie in [0, 1], got values from {least:.4g} to {most:.4g}")


def check_labels(labels: Tensor, classes: int) -> None:
    """Whether all labels are int64 and in [0, classes)."""
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(f"labels must be int64 of shape (N,), got {labels.dtype} of shape {tuple(labels.shape)}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        expected = f"from 0 to {classes - 1}, as the network has {classes} classes"
        raise ValueError(f"labels must be {expected}, got {wrong[0]}")


def count_classes(network: nn.Module, images: Tensor) -> int:
    """How many logits the network has for an image; it is left as it was."""
    with norm_mode(network, "eval"), torch.no_grad():
        logits = network(images[:1])
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the network must give logits (N, classes), got {got} for one image")
    return logits.shape[1]
