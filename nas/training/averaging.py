"""The exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """``average <- decay * average + (1 - decay) * weights`` after every step, for weights and running statistics.

    The decay is smaller during the first steps, ``min(decay, (1 + steps) / (10 + steps))``, so that the initial,
    untrained weights soon have no influence. Integer buffers are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.steps = 0
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the weights that ``model`` has after an optimiser step."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in model.state_dict().items():
            average = self.weights[name]
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)

    def load(self, weights: dict[str, Tensor], steps: int) -> None:
        """Restore a stored average and its number of ``steps``."""
        self.steps = steps
        for name, average in self.weights.items():
            average.copy_(weights[name])
