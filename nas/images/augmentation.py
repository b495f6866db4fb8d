"""Random crops and flips of a batch at once, where the images lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4  # pixels on each side, as in all CIFAR protocols since He et al. (CVPR 2016)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A crop of the image's own size from the image padded with black, then a mirror image of every second one."""

    crop: bool = True
    flip: bool = True

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 ``(N, H, W, C)`` -> float32 ``(N, C, H, W)`` in [0, 1], in channels_last layout.

        :param generator: on the CPU, so that every device draws the same crops.
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
            rows, columns = (each.to(images.device) for each in (rows, columns))
            each = torch.arange(n, device=images.device)[:, None, None]
            images = images[each, rows[:, :, None], columns[:, None, :]]
        return to_pixels(images)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 ``(N, H, W, C)`` -> float32 ``(N, C, H, W)`` in [0, 1], in channels_last layout."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(255)
