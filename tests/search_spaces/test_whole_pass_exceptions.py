"""What runs module by module, though the rest could run as a whole: whatever a user changed, or listens to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search_spaces.cell_network import CellModule, CellNetwork
from search_spaces.cells import Cell, CellGenotype
from search_spaces.known_cells import known_cell
from search_spaces.operations import ConvNorm
from search_spaces.whole_pass import whole_cell, whole_network
from tests.search_spaces.test_operations import assert_same, values_and_gradients
from tests.search_spaces.test_whole_pass import drawn, images, network_of


def relus(network: CellNetwork) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.ReLU)]


_CELL = Cell(((("sep_conv_3x3", 0), ("max_pool_3x3", 1)), (("dil_conv_3x3", 2), ("skip_connect", 1))), (2, 3))
PLAIN = CellGenotype(_CELL, _CELL)


class Doubled(nn.Module):
    def __init__(self, cell: nn.Module):
        super().__init__()
        self.cell = cell

    def forward(self, *inputs: Any) -> Tensor:
        doubled: Tensor = 2 * self.cell(*inputs)
        return doubled


def a_convolution(network: CellNetwork) -> nn.Module:
    return next(module.conv for module in network.cells.modules() if isinstance(module, ConvNorm))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "change",
    [
        lambda network: relus(network)[1].register_forward_hook(lambda _module, _inputs, out: out * 2),
        lambda network: relus(network)[1].register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,)),
        lambda network: relus(network)[1].register_full_backward_hook(lambda _module, by, _of: (by[0] * 2,)),
        lambda network: network.activations.__setitem__(2, nn.Softplus()),
        lambda network: network.cells[0].activations.__setitem__(0, nn.Identity()),
        lambda network: setattr(network.stem.conv, "bias", nn.Parameter(torch.ones(6, dtype=torch.float64))),
        lambda network: setattr(network.stem, "conv", nn.Conv2d(3, 6, 3, 1, 2, 2, bias=False).double()),
        lambda network: setattr(network.cells[3], "forward", lambda _, last, _probability: 2 * last),
        lambda network: network.cells.__setitem__(1, Doubled(network.cells[1])),
    ],
    ids=["hook", "pre-hook", "backward hook", "softplus", "identity", "bias", "dilation", "forward", "wrapped"],
)
def test_what_a_user_changed_counts(change: Callable[[CellNetwork], Any], training: bool) -> None:
    network = network_of(PLAIN, training=training)
    change(network)
    assert whole_network(network, images()) is None
    values = values_and_gradients(network, images(), torch.ones(4, 3, dtype=torch.float64))
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.register_forward_hook(lambda *_: None)
    assert_same(values, values_and_gradients(network, images(), torch.ones(4, 3, dtype=torch.float64)))


def test_operations_that_were_changed() -> None:
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    for change in (
        lambda cell: cell.operations[0].append(nn.Dropout(0.0)),
        lambda cell: setattr(cell.operations[1], "ceil_mode", True),
        lambda cell: setattr(cell.operations[1], "kernel_size", (3, 3)),
    ):
        module = CellModule(PLAIN.normal, 4, 4, 2, reduction=False, reduced_before=False).double().eval()
        change(module)
        assert whole_cell(module, x, x) is None
        assert module(x, x).isfinite().all()


def test_global_hooks_hear_every_module() -> None:
    network, heard = network_of(drawn(0)), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: heard.append(module))
    try:
        network(images())
    finally:
        handle.remove()
    assert sum(isinstance(module, ConvNorm) for module in heard) > 10


def test_cells_in_training_mode_drop_paths() -> None:
    network = network_of(drawn(0))
    network.cells.train()
    network.drop_path_probability = 0.9
    expected = network_of(drawn(0))
    expected.cells.train()
    assert not torch.equal(network(images()), expected(images()))


def test_no_images() -> None:
    logits = network_of(drawn(0))(torch.zeros(0, 3, 8, 8, dtype=torch.float64))
    assert logits.shape == (0, 3)


@pytest.mark.parametrize(
    "listen",
    [
        lambda network: network.cells[1].register_forward_hook(lambda *_: None),
        lambda network: network.stem.register_forward_pre_hook(lambda *_: None),
        lambda network: network.classifier.register_full_backward_hook(lambda *_: None),
        lambda network: network.cells[0].operations.register_full_backward_pre_hook(lambda *_: None),
        lambda network: a_convolution(network).register_forward_hook(lambda *_: None),
    ],
)
def test_who_listens_is_called(listen: Callable[[CellNetwork], Any]) -> None:
    network = network_of(drawn(0))
    assert whole_network(network, images()) is not None
    listen(network)
    assert whole_network(network, images()) is None


@pytest.mark.parametrize("name", ["CROZE", "NASNet"])
def test_operations_without_rows_run_module_by_module(name: str) -> None:
    """``conv_7x1_1x7`` of the one, another operation of a user's in the other."""
    network = network_of(known_cell(name))
    if name == "NASNet":
        network.cells[0].operations[0] = nn.Sequential(nn.Identity())  # type: ignore[index, union-attr]
    assert whole_network(network, images()) is None
    assert network(images()).isfinite().all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_other_precisions_and_tracers_run_module_by_module() -> None:
    network = network_of(drawn(0)).float()
    x = images().float()
    traced: Any = torch.jit.trace(lambda each: whole_network(network, each) is None and each, x, check_trace=False)
    assert torch.equal(traced(x), x)
    with torch.autocast("cpu", torch.bfloat16):
        assert whole_network(network, x) is None
    assert whole_network(network.to("meta"), x.to("meta")) is None


def test_a_single_value_has_no_variance() -> None:
    module = CellModule(drawn(0).normal, 4, 4, 2, reduction=False, reduced_before=False).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module(torch.ones(1, 4, 1, 1), torch.ones(1, 4, 1, 1))
