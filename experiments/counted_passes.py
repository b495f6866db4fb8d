"""The work of a search, in MACs of the passes that its scores of ``robust`` take.

A pass is one image forward and backward through a network. It counts as the multiply-accumulates of the forward pass;
operations whose weight in a supernet is 0 are left out. A score takes a pass for each image of the kernel, and two for
each image of the curvature. With a gradient with respect to the architecture weights it counts three times: a backward
pass through a forward and a backward pass takes about twice their operations.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from nas.searching.untrained import UntrainedNetworks
from proxies.engine.modes import norm_mode
from search_spaces.cells.supernet import Supernet
from searchers.supernet import Material

GRADIENT_FACTOR = 3


class Meter:
    """Counts the MACs of the passes of one search."""

    def __init__(self, source: UntrainedNetworks):
        self.spent = 0
        self.config = source.config
        self.given = source.material()
        self._operations: tuple[int, list[tuple[str, Tensor]]] | None = None

    def passes(self, images: int) -> int:
        """Of one score on a batch of so many images."""
        return min(self.config.ntk_images, images) + 2 * min(self.config.curvature_images, images)

    def material(self) -> Material:
        """What a searcher with a supernet computes with, so that the work on the supernet is counted."""
        return dataclasses.replace(self.given, log_robustness=self._counted)

    def _counted(self, network: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> Tensor:
        factor = GRADIENT_FACTOR if torch.is_grad_enabled() else 1
        self.spent += factor * self.passes(len(images)) * self._active_macs(network)
        return self.given.log_robustness(network, images, labels, **options)

    def _active_macs(self, network: Any) -> int:
        if self._operations is None:
            self._operations = macs_by_operation(network.supernet, self.given.probe_images[:1])
        total, cells = self._operations
        return total - sum(int(macs[network.mixing[name] == 0].sum()) for name, macs in cells)


def macs_by_operation(supernet: Supernet, image: Tensor) -> tuple[int, list[tuple[str, Tensor]]]:
    """MACs of the supernet for one image, and for each cell its name and those of its operations, as the weights."""
    found: dict[nn.Module, int] = {}

    def count(module: Any, inputs: Any, output: Tensor) -> None:
        found[module] = output.numel() * module.weight[0].numel()

    layers = [module for module in supernet.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [module.register_forward_hook(count) for module in layers]
    with torch.no_grad(), norm_mode(supernet, "eval"):
        supernet(image)
    for handle in handles:
        handle.remove()

    def of(operation: nn.Module) -> int:
        return sum(found.get(module, 0) for module in operation.modules())

    cells = [
        (name, torch.tensor([[of(each) for each in edge.get_submodule("operations").children()] for edge in edges]))
        for name, edges in supernet.mixed_edges()
    ]
    return sum(found.values()), cells
