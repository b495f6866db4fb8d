from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxies.engine.mixed_derivative import mixed_derivative
from proxies.engine.modes import norm_mode
from proxies.grasp import backward_product, forward_product
from search_spaces import SPACES, get_space
from search_spaces.base import NetworkSpec

LAYERS = nn.Conv2d | nn.Linear


class Declared(nn.Sequential):
    """A network that says that there is nothing else in it."""

    linear_between = True


def weights_of(network: nn.Module) -> list[Tensor]:
    return [module.weight for module in network.modules() if isinstance(module, LAYERS)]


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 3, 8, 8, dtype=dtype, generator=generator), torch.tensor([0, 2, 1])


def all_kinds() -> Declared:
    return Declared(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False),
        nn.Conv2d(6, 6, 3, padding="same", padding_mode="reflect", groups=3), nn.ReLU(), nn.Dropout(0.5).eval(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3, bias=False),
    )  # fmt: skip


@pytest.mark.parametrize("space", SPACES)
def test_networks_of_every_space(space: str) -> None:
    """Also that one which says that it is linear between its modules is; those that do not say so are left out."""
    chosen, rng = get_space(space), np.random.default_rng(0)
    images, labels = batch()
    size = {"channels": 4, "layers": 3} if chosen.default_layers else {"channels": 1, "layers": None}
    for i in range(6):
        torch.manual_seed(i)
        network = chosen.build(chosen.sample(rng), NetworkSpec(**size, classes=3, image_size=(8, 8)))
        network = network.double().eval()
        if not network.linear_between:
            assert mixed_derivative(network, {}, images, labels) is None
            continue
        weights = weights_of(network)
        with norm_mode(network, "train"), torch.enable_grad():
            found = forward_product(network, weights, images, labels)
            expected = backward_product(network, weights, images, labels)
        assert found is not None
        assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_every_kind_of_module_and_any_direction() -> None:
    torch.manual_seed(0)
    network = all_kinds().double()
    images, labels = batch()
    directions = {weight: torch.randn_like(weight) for weight in weights_of(network)[:-1]}
    found = mixed_derivative(network, directions, images, labels)
    assert found is not None

    def loss(a: Tensor, b: Tensor) -> Tensor:
        named = {
            name: (1 + a) * each + b * directions[each]
            for name, each in network.named_parameters()
            if each in directions
        }
        return nn.functional.cross_entropy(torch.func.functional_call(network, named, images), labels)

    a, b = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    (by_a,) = torch.autograd.grad(loss(a, b), a, create_graph=True)
    (expected,) = torch.autograd.grad(by_a, b)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_closer_than_two_backward_passes_in_float32() -> None:
    space = get_space("darts")
    torch.manual_seed(1)
    network = space.build(space.parse("ROBUST_ZCP"), NetworkSpec(channels=8, layers=5, classes=3)).eval()
    with norm_mode(network, "train"), torch.enable_grad():
        images, labels = batch(torch.float32)
        found = forward_product(network, weights_of(network), images, labels)
        network.double()
        expected = backward_product(network, weights_of(network), images.double(), labels)
    assert found is not None and found.item() == pytest.approx(expected.item(), rel=2e-3)


def hooked(network: nn.Module) -> None:
    network[2].register_forward_hook(lambda *_: None)  # type: ignore[operator]


def changed(network: nn.Module) -> None:
    network[2].forward = torch.tanh  # type: ignore[operator]


def put(place: int, module: nn.Module) -> Callable[[nn.Module], None]:
    return lambda network: network.__setitem__(place, module)  # type: ignore[operator]


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


@pytest.mark.parametrize(
    "change",
    [
        hooked, changed, lambda network: network.eval(),
        put(2, nn.ReLU(inplace=True)), put(4, Standardised(4, 6, 1)), put(8, nn.Dropout(0.5)),
        put(4, Standardised(4, 6, 1, bias=False)),
        put(8, nn.InstanceNorm2d(6)), put(8, nn.PReLU()), put(3, nn.MaxPool2d(3, 1, 1, return_indices=True)),
        lambda network: nn.utils.parametrizations.weight_norm(network[0]),  # type: ignore[index]
    ],
)  # fmt: skip
def test_what_it_does_not_take(change: Callable[[nn.Module], None]) -> None:
    network = all_kinds().double()
    change(network)
    assert mixed_derivative(network, {}, *batch()) is None


def test_a_network_that_does_not_declare_itself() -> None:
    assert mixed_derivative(nn.Sequential(*all_kinds()).double(), {}, *batch()) is None


def test_nothing_stays_behind() -> None:
    network = all_kinds().double()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    assert mixed_derivative(network, {}, *batch()) is not None
    images, labels = batch()
    with pytest.raises(RuntimeError):
        mixed_derivative(network, {}, images[:, :2], labels)
    assert not any("forward" in module.__dict__ for module in network.modules())
    for name, each in network.state_dict().items():
        torch.testing.assert_close(each, before[name], rtol=0, atol=0)
