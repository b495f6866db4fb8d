"""The layers of a network: their weights and their multiply-accumulates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from proxies.engine.modes import norm_mode


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of the convolutions and linear layers of ``network``, by parameter name."""
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def count_macs(network: nn.Module, image: Tensor) -> int:
    """Number of multiply-accumulates of the convolutions and linear layers for one image ``(1, C, H, W)``."""
    from torch.utils.flop_counter import FlopCounterMode

    with norm_mode(network, "eval"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    flops: int = counter.get_total_flops()
    return flops // 2
