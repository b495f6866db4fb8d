"""Random crops and horizontal flips of a whole batch at once, on the device that holds the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4  # pixels on each side, as in all CIFAR protocols since He et al. (CVPR 2016)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random crop of the original size from the image padded with black, and horizontal flip with probability 1/2."""

    crop: bool = True
    flip: bool = True

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 ``(N, H, W, C)`` -> float32 ``(N, C, H, W)`` in [0, 1], in channels_last layout.

        :param generator: a CPU generator, so that the crops and flips do not depend on the device of the images.
        """
        n, h, w, _ = images.shape
        rows, columns = torch.arange(h).expand(n, h), torch.arange(w).expand(n, w)
        if self.flip:
            mirrored = torch.rand(n, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        if self.crop:
            down, right = torch.randint(2 * PADDING + 1, (2, n, 1), generator=generator)
            rows, columns = rows + down, columns + right
            images = F.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING))
        if self.crop or self.flip:
            rows, columns = (_sent(each, images.device) for each in (rows, columns))
            each = torch.arange(n, device=images.device)[:, None, None]
            images = images[each, rows[:, :, None], columns[:, None, :]]
        return to_pixels(images)


def _sent(x: Tensor, device: torch.device) -> Tensor:
    """``x`` on the device; a GPU goes on with its work meanwhile, which copies from memory that is not pinned end."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x


def to_pixels(images: Tensor) -> Tensor:
    """uint8 ``(N, H, W, C)`` -> float32 ``(N, C, H, W)`` in [0, 1], in channels_last layout."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(255)
