"""Who may listen to a network that is computed as a whole, and what they are shown."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cell_network import CellNetwork
from search_spaces.whole_pass import whole_network
from tests.search_spaces.test_operations import assert_same
from tests.search_spaces.test_whole_pass import drawn, images, network_of, one_by_one


@pytest.mark.parametrize("seed", range(4))
def test_relus_are_shown_as_before_to_who_only_looks(seed: int) -> None:
    """The same outputs in the same order."""
    network = network_of(drawn(seed))
    apart = one_by_one(network)
    heard: list[list[Tensor]] = []
    for each in (network, apart):
        outputs: list[Tensor] = []

        def look(_module: nn.Module, _inputs: Any, out: Tensor, outputs: list[Tensor] = outputs) -> None:
            outputs.append(out.detach().clone())

        look.only_looks = True  # type: ignore[attr-defined]
        for module in each.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(look)
        assert (whole_network(each, images()) is not None) == (each is network)  # type: ignore[arg-type]
        outputs.clear()
        each(images())
        heard.append(outputs)
    assert_same(heard[0], heard[1])
    assert len(heard[0]) > 10


class Listener:
    """Gathers the saliency of a layer: from a whole pass, or by itself from the output and its gradient."""

    def __init__(self, layer: nn.Module):
        self.told: list[Tensor] = []
        self.takes_saliency = self.told.append
        layer.register_forward_hook(self)

    def __call__(self, _layer: nn.Module, _inputs: Any, out: Tensor) -> None:
        values = out.detach()
        out.register_hook(lambda gradient: self.told.append((values * gradient).reshape(*out.shape[:2], -1).sum(2)))


@pytest.mark.parametrize("channels", [2, 16])
@pytest.mark.parametrize("seed", range(3))
def test_the_saliency_of_layers_is_told(one_thread: None, seed: int, channels: int) -> None:
    spec = NetworkSpec(channels=channels, layers=4, classes=3)
    network = network_of(drawn(seed), training=True, seed=seed, spec=spec)
    apart = one_by_one(network)
    x, found = images(9, 8), []
    for each in (network, apart):
        layers = {name: m for name, m in each.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        heard = {name: Listener(layer) for name, layer in layers.items()}
        assert (whole_network(copy.deepcopy(each), x) is not None) == (each is network)  # type: ignore[arg-type]
        logits = each(x)
        torch.autograd.grad((logits * logits).sum(), list(each.parameters()), allow_unused=True)
        found.append({name: torch.stack(listener.told).sum(0) for name, listener in heard.items() if listener.told})
    assert found[0].keys() == found[1].keys()
    assert_same(list(found[0].values()), list(found[1].values()))
    network.eval()  # norms are folded into the convolutions, whose outputs then are none
    assert whole_network(network, x) is None


def conv_of(network: CellNetwork) -> nn.Module:
    return next(module for module in network.cells.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("other", ["hook", "mock", "pre-hook", "backward hook", "no norm", "folded before", "class"])
def test_the_saliency_is_told_only_where_that_is_all(other: str) -> None:
    """Where somebody listens for anything else, or there is no output to tell of, modules are called one by one."""
    network, heard = network_of(drawn(1), training=other != "folded before"), Mock(return_value=None)
    conv = conv_of(network)
    scope: Any = network.folded() if other == "folded before" else nullcontext()
    with scope:
        Listener(conv)
        assert (whole_network(network, images()) is not None) == (other != "folded before")
        if other == "hook":
            conv.register_forward_hook(lambda *inputs: heard(*inputs))
        elif other == "mock":
            conv.register_forward_hook(heard)
        elif other == "pre-hook":
            conv.register_forward_pre_hook(lambda *inputs: heard(*inputs))
        elif other == "backward hook":
            conv.register_full_backward_hook(lambda *gradients: heard(*gradients))
        elif other == "no norm":
            for module in network.modules():
                if hasattr(module, "norm"):
                    module.norm = nn.Identity()
        elif other == "class":
            conv.__class__ = type("Other", (type(conv),), {})
        assert whole_network(network, images()) is None
        network(images()).sum().backward()
    assert heard.called == (other in ("hook", "mock", "pre-hook", "backward hook"))
