"""SGD whose learning rate is a tensor."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class TensorRateSGD(torch.optim.SGD):
    """``torch.optim.SGD`` with the learning rate in a tensor on the device, which a replayed step reads.

    torch's own reads such a tensor back to the host, which a CUDA graph cannot do, and rounds in another way. Momenta
    start at zero, which gives the same as torch's start at the first gradient.

    :param lr: the first learning rate; :meth:`set_rate` changes it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float):
        parameters = list(parameters)
        self._rate = torch.tensor(lr, device=parameters[0].device)
        super().__init__(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the following steps."""
        self._rate.fill_(rate)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            if not parameters:
                continue
            changes: list[Tensor] = [each.grad for each in parameters]
            if group["weight_decay"]:
                changes = list(torch._foreach_add(changes, parameters, alpha=group["weight_decay"]))
            if group["momentum"]:
                momenta = [self._momentum(each) for each in parameters]
                torch._foreach_mul_(momenta, group["momentum"])
                torch._foreach_add_(momenta, changes)
                changes = momenta
            torch._foreach_sub_(parameters, torch._foreach_mul(changes, self._rate))

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        return momentum
