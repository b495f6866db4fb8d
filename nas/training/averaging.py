"""The exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """``average <- decay * average + (1 - decay) * weights`` after every step, for weights and running statistics.

    The decay is smaller during the first steps, ``min(decay, (1 + steps) / (10 + steps))``, so that the initial,
    untrained weights soon have no influence. Integer buffers are copied, not averaged.

    :param in_tensor: keep ``1 - decay`` in a tensor, where a replayed step reads it (:mod:`nas.training.replay`).
    """

    def __init__(self, model: nn.Module, decay: float, *, in_tensor: bool = False):
        self.decay = decay
        self.steps = 0
        self._weight: float | Tensor = 0.0  # of the weights in the next update
        if in_tensor:
            self._weight = torch.zeros((), device=next(model.parameters()).device)
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def count(self) -> None:
        """Count one more step; :meth:`update` follows."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        if isinstance(self._weight, Tensor):
            self._weight.fill_(weight)
        else:
            self._weight = weight

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the weights that ``model`` has after an optimiser step."""
        for name, value in model.state_dict().items():
            average = self.weights[name]
            if average.is_floating_point():
                weight = self._weight
                average.lerp_(value, weight.to(average.dtype) if isinstance(weight, Tensor) else weight)
            else:
                average.copy_(value)

    def load(self, weights: dict[str, Tensor], steps: int) -> None:
        """Restore a stored average and its number of ``steps``."""
        self.steps = steps
        for name, average in self.weights.items():
            average.copy_(weights[name])
