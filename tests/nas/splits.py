"""Images that are told apart by their first pixel."""

from __future__ import annotations

import numpy as np
import torch

from nas.images.data import ImageSplit


def split_of(*counts: int) -> ImageSplit:
    """Interleaved labels; the first pixel of image i is i."""
    labels = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    labels = labels[torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))]
    images = torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels), dtype=torch.uint8)
    return ImageSplit(images, labels, tuple(f"c{label}" for label in range(len(counts))))
