"""Networks of every space are plain torch: they work under ``torch.func``, autocast, export and tracing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.cells.folding import Foldable
from search_spaces.cells.operations import ConvNorm

CELLS = {
    "darts": "ROBUST_ZCP", "nasbench201": "314203", "wide_resnet": "d2-w1.d1-w1.d1-w1",
    "robust_resnet": "robust.rse.silu.d1-w1.d2-w1.d1-w1",
}  # fmt: skip
#: torch's own forward mode and tracer use what torch has deprecated
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]


@pytest.fixture(params=CELLS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    """In float64, eval mode."""
    torch.manual_seed(0)
    space = get_space(request.param)
    spec = NetworkSpec(channels=2, layers=3 if space.default_layers else None)
    return space.build(space.parse(CELLS[request.param]), spec).double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 1, 2])


def parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach() for name, each in network.named_parameters()}


def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Any:
    return lambda tensors: F.cross_entropy(functional_call(network, tensors, (images,)), labels)


def test_gradients_of_single_images_by_vmap(network: nn.Module, images: Tensor) -> None:
    tensors = parameters(network)

    def of_image(tensors: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        found: Tensor = loss(network, image[None], label[None])(tensors)
        return found

    found = vmap(grad(of_image), in_dims=(None, 0, 0))(tensors, images, LABELS)
    for i in range(len(images)):
        expected = grad(loss(network, images[i : i + 1], LABELS[i : i + 1]))(tensors)
        for name in tensors:
            torch.testing.assert_close(found[name][i], expected[name])


def test_derivatives_forward_and_backward_agree(network: nn.Module, images: Tensor) -> None:
    """First derivatives by forward mode; second ones by forward mode over backward mode."""
    tensors, generator = parameters(network), torch.Generator().manual_seed(2)
    v, w = (
        {n: torch.randn(t.shape, dtype=t.dtype, generator=generator) for n, t in tensors.items()} for _ in range(2)
    )
    function = loss(network, images, LABELS)

    def along(a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()

    gradient = grad(function)(tensors)
    torch.testing.assert_close(jvp(function, (tensors,), (v,))[1], along(gradient, v))
    product = jvp(grad(function), (tensors,), (v,))[1]
    twice = grad(lambda each: along(grad(function)(each), v))(tensors)
    torch.testing.assert_close(along(product, w), along(twice, w))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_autocast(network: nn.Module, images: Tensor, training: bool) -> None:
    network.float().train(training)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images.float())
    F.cross_entropy(logits.float(), LABELS).backward()
    found = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    assert found and all(each.dtype == torch.float32 and each.isfinite().all() for each in found.values())


def test_export_holds_operations_of_torch(network: nn.Module, images: Tensor) -> None:
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert all(name.startswith("aten.") for name in names)
    torch.testing.assert_close(program.module()(images[:2]), network(images[:2]))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # whether height and width are even becomes a constant
def test_a_traced_network_takes_any_number_of_images(network: nn.Module, images: Tensor) -> None:
    traced: Any = torch.jit.trace(network, images, check_trace=False)
    torch.testing.assert_close(traced(images[:2]), network(images[:2]))


def test_every_hook_is_called(network: nn.Module, images: Tensor) -> None:
    """On every module that has work to do; inside the folding context also, whose modules with hooks are not folded."""
    heard: list[nn.Module] = []
    leaves = [module for module in network.modules() if not list(module.children())]
    for module in leaves:
        module.register_forward_hook(lambda module, *_: heard.append(module))
    logits = network(images)
    called = set(heard)
    assert {type(module) for module in leaves if not isinstance(module, nn.Identity)} <= {type(m) for m in called}
    heard.clear()
    with network.folded():
        torch.testing.assert_close(network(images), logits)
    assert set(heard) == called


def test_a_global_hook_is_called_for_every_module(network: nn.Module, images: Tensor) -> None:
    heard: set[nn.Module] = set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: heard.add(module))
    try:
        with network.folded():
            network(images)
    finally:
        handle.remove()
    norms = {module for module in network.modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms <= heard


class OtherNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


def _shares_a_weight(network: nn.Module, units: list[Any]) -> None:
    units[1].conv.weight = units[0].conv.weight
    units[1].norm.register_forward_hook(lambda *_: None)


def _has_another_norm(network: nn.Module, units: list[Any]) -> None:
    units[0].norm = OtherNorm(units[0].norm.num_features).double().eval()


def _has_another_convolution(network: nn.Module, units: list[Any]) -> None:
    units[0].conv._conv_forward = lambda x, weight, bias: x * 2


@pytest.mark.parametrize("change", [_shares_a_weight, _has_another_norm, _has_another_convolution])
def test_what_a_user_changed_is_not_folded(network: nn.Module, images: Tensor, change: Any) -> None:
    units = [m for m in network.modules() if isinstance(m, ConvNorm) and m.conv.in_channels == m.conv.out_channels]
    alike = [m for m in units if m.conv.weight.shape == units[0].conv.weight.shape]
    change(network, alike)
    expected = dict(zip(*_gradients(network, images), strict=True))
    with network.folded() as folded:
        loss = network(images).square().sum()
        found = folded.gradients(torch.autograd.grad(loss, folded.leaves, allow_unused=True))
    for name, gradient in expected.items():
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient)


def _gradients(network: nn.Module, images: Tensor) -> tuple[list[str], tuple[Any, ...]]:
    named = dict(network.named_parameters())
    return list(named), torch.autograd.grad(network(images).square().sum(), list(named.values()), allow_unused=True)


def test_folding_inside_of_folding(network: nn.Module, images: Tensor) -> None:
    names, expected = _gradients(network, images)
    with network.folded() as outer:
        with network.folded():
            network(images)
        loss = network(images).square().sum()
        found = outer.gradients(torch.autograd.grad(loss, outer.leaves, allow_unused=True))
    for name, gradient in zip(names, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient)
    assert all(module.folded_tensors is None for module in network.modules() if isinstance(module, Foldable))
