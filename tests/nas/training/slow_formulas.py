"""The losses of adversarial training written out literally, image by image, and a network to try them on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SmallNet(nn.Module):
    """Convolution, batch norm, ReLU, pooling, classifier: ``(N, 3, 8, 8)`` -> ``(N, 5)``."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64, dropout: bool = False):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(),
                nn.Flatten(), nn.Linear(72, 5),
            )  # fmt: skip
        self.to(dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def batch(seed: int = 0, n: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Images ``(n, 3, 8, 8)`` in [0, 1] and labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 8, 8, generator=generator, dtype=dtype), torch.randint(5, (n,), generator=generator)


def probabilities(logits: Tensor) -> list[list[float]]:
    rows = []
    for row in logits.tolist():
        total = sum(math.exp(each) for each in row)
        rows.append([math.exp(each) / total for each in row])
    return rows


def trades_loss(clean: Tensor, adversarial: Tensor, labels: Tensor, beta: float) -> float:
    """``mean of -log p_y + beta sum_k p_k log(p_k / q_k)``."""
    total = 0.0
    for p, q, y in zip(probabilities(clean), probabilities(adversarial), labels.tolist(), strict=True):
        total += -math.log(p[y]) + beta * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(labels)


def mart_loss(clean: Tensor, adversarial: Tensor, labels: Tensor, beta: float) -> float:
    """Eq. 11: ``mean of -log q_y - log(1 - max_{k != y} q_k) + beta (1 - p_y) sum_k p_k log(p_k / q_k)``."""
    total = 0.0
    for p, q, y in zip(probabilities(clean), probabilities(adversarial), labels.tolist(), strict=True):
        other = max(each for k, each in enumerate(q) if k != y)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += -math.log(q[y]) - math.log(1 - other) + beta * divergence * (1 - p[y])
    return total / len(labels)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> float:
    """Mean of ``-sum_k t_k log p_k``, ``t`` the smoothed label."""
    total = 0.0
    for p, y in zip(probabilities(logits), labels.tolist(), strict=True):
        targets = [smoothing / len(p) + (1 - smoothing) * (k == y) for k in range(len(p))]
        total -= sum(t * math.log(each) for t, each in zip(targets, p, strict=True))
    return total / len(labels)
