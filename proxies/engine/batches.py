"""Images and labels as users bring them: tensors, arrays of numpy, lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_batch(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Images and labels as tensors; whole numbers that are labels become int64.

    :raises ValueError: one of them cannot be read as a tensor, or holds no values.
    """
    images, labels = _as_tensor(images, "images"), _as_tensor(labels, "labels")
    if labels.dtype != torch.bool and not labels.is_floating_point() and not labels.is_complex():
        labels = labels.long()
    return images, labels


def _as_tensor(given: Any, what: str) -> Tensor:
    try:
        if isinstance(given, list | tuple) and given and isinstance(given[0], Tensor):
            given = torch.stack(list(given))
        found = given if isinstance(given, Tensor) else torch.from_numpy(np.array(given, order="C"))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{what} must be a tensor or an array, got {type(given).__name__}: {reason}") from None
    if found.is_meta or found.layout != torch.strided:
        raise ValueError(f"{what} must be a dense tensor with values, got {found.layout} on the device {found.device}")
    found = found.detach()
    return found.clone() if found.is_inference() else found  # autograd does not save tensors of inference_mode
