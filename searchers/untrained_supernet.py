"""The score of ``robust`` of an untrained supernet, as a function of the weights with which its operations are mixed.

The score is that of the proxy (:func:`proxies.robust.log_robustness`) with two choices about the relaxation:

* ``none`` is left out. It has neither curvature nor a kernel: the score grows without a bound as all edges approach it,
  in a network that cannot learn. Cells of NAS-Bench-201 with ``none`` are proposed as neighbours only.
* The mean of the neural tangent kernel (NTK) divides by the number of parameters that a cell drawn from the weights is
  expected to have (:meth:`~search_spaces.cells.supernet.Supernet.expected_parameters`), not by those of all operations
  together. So the score of weights that are 0 and 1 is that of the cell that they stand for. With the constant number
  the best weights are no cell's: outputs of untrained operations are nearly uncorrelated, so a mixture of them is
  smaller than each, and has a smaller kernel. Measured on NAS-Bench-201 (4 channels, 3 layers, CIFAR-10 at 16 x 16
  pixels): after 15 steps of the gradient the entropy was 1.16 of 1.39 nats and hardly fell, against 0.82 with the
  expected number, and the score of the derived cell was -713, against -520.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.base import Relaxable
from search_spaces.cells.supernet import Supernet
from searchers.base import SearcherStopped
from searchers.supernet import Material


class Mixture(nn.Module):
    """A supernet with given weights, which are not among its parameters: ``(N, C, H, W)`` -> logits."""

    def __init__(self, supernet: Supernet, mixing: Mapping[str, Tensor]):
        super().__init__()
        self.supernet = supernet
        self.mixing = mixing

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.supernet(images, self.mixing)
        return logits


def drawn_supernet(space: Relaxable[Any], material: Material, *seed: int) -> Supernet:
    """A supernet whose weights are drawn from ``seed``; its own architecture weights are frozen."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(state[0]))
        supernet = space.supernet(material.spec)
    supernet.architecture.requires_grad_(False)
    return supernet.to(material.device)


def relaxed_score(material: Material, supernet: Supernet, mixing: Mapping[str, Tensor], images: int) -> Tensor:
    """``()``: the score of the supernet with the weights ``mixing``, in the shapes of its own.

    :param images: how many images of the probe's batch, from its start.
    :raises SearcherStopped: there is no finite score.
    """
    batch = [each[:images].to(material.device) for each in (material.probe_images, material.probe_labels)]
    params = supernet.expected_parameters(mixing)
    try:
        score = material.log_robustness(Mixture(supernet, mixing), *batch, params=params)
    except ValueError as error:
        raise SearcherStopped(f"the supernet has no score: {error}") from None
    if not score.isfinite():
        raise SearcherStopped(f"the score of the supernet is {score.item()}, expected a finite number")
    return score


def choosable(supernet: Supernet) -> dict[str, Tensor]:
    """By name of the cell, bool ``(edges, operations)``: all operations but ``none``."""
    columns = torch.tensor([operation != "none" for operation in supernet.operations])
    return {name: columns.repeat(len(supernet.architecture[name]), 1) for name in supernet.groups}
