"""The fast operations against the literal ones of nas/testing/literal.py: torch's own modules, contiguous, unfolded."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from nas.testing.literal import literal_module, literal_network
from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import Cell, reduction_layers
from search_spaces.cells.kernels import depthwise, row_product_gradient, to_phases
from search_spaces.cells.network import CellModule, CellNetwork, drop_path
from search_spaces.cells.operations import OPERATIONS, FactorizedReduce, SeparableConv
from search_spaces.darts.known_cells import known_cell
from search_spaces.robnet.space import RobNetSpace

M = TypeVar("M", bound=nn.Module)

SIZES = [(8, 8), (9, 7), (6, 9), (1, 1)]
#: the published factorized reduction takes even sizes only
COMPARED = [
    (name, stride, size)
    for name in OPERATIONS
    for stride in (1, 2)
    for size in SIZES
    if not (name == "skip_connect" and stride == 2 and (size[0] % 2 or size[1] % 2))
]
CELLS = ["DARTS_V2", "ROBUST_ZCP", "LRNAS", "NASNet", "AmoebaNet", "CROZE"]
ALL = [*CELLS, "ROBNET_FREE", "ImageNet"]


def network_of(name: str) -> CellNetwork:
    """Of a published cell, of RobNet's first cells, or with the two stems of ImageNet."""
    spec = NetworkSpec(channels=2, layers=4, classes=3)
    if name == "ImageNet":
        return CellNetwork(known_cell("DARTS_V2"), replace(spec, channels=8), imagenet=True)
    return CellNetwork(RobNetSpace().parse(name) if name == "ROBNET_FREE" else known_cell(name), spec)


def randomised(module: M, generator: torch.Generator) -> M:
    """``module`` in float64 with batch norms that are no identity."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                assert tensor is not None
                tensor.data.normal_(generator=generator)
            assert norm.running_var is not None
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.double()


def values_and_gradients(module: nn.Module, x: Tensor, weights: Tensor) -> list[Tensor]:
    """The output, the gradient of the input and those of all parameters, of ``(output * weights).sum()``."""
    x = x.clone().requires_grad_()
    output = module(x)
    return [output, *gradients((output * weights).sum(), [x, *module.parameters()])]


def gradients(value: Tensor, inputs: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    """The gradient of each input, zeros where the value does not depend on it."""
    return list(torch.autograd.grad(value, inputs, create_graph=create_graph, materialize_grads=True))


def assert_same(actual: list[Tensor], expected: list[Tensor], rtol: float = 1e-9) -> None:
    """Equal up to ``rtol`` of the greatest number in a tensor, and to rounding errors of the greatest of all."""
    rounding = 1e-14 * max((theirs.abs().max().item() for theirs in expected), default=0.0)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * theirs.abs().max().item() + rounding)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("name", "stride", "size"), COMPARED, ids=str)
def test_operation_equals_the_literal_one(name: str, stride: int, size: tuple[int, int], training: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    operation = randomised(OPERATIONS[name](4, stride), generator).train(training)
    literal = literal_module(copy.deepcopy(operation)).train(training)
    x = torch.randn(3, 4, *size, dtype=torch.float64, generator=generator)
    height, width = (-(-side // stride) for side in size)
    weights = torch.randn(3, 4, height, width, dtype=torch.float64, generator=generator)
    for layout in (torch.contiguous_format, torch.channels_last):
        actual = values_and_gradients(operation, x.contiguous(memory_format=layout), weights)
        assert actual[0].shape == (3, 4, height, width)
        assert_same(actual, values_and_gradients(literal, x, weights))
    assert_same(list(operation.buffers()), list(literal.buffers()))  # the running statistics of training mode


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(9, 7), (6, 9), (1, 1)], ids=str)
def test_factorized_reduction_of_odd_sizes_pads_with_zeros(size: tuple[int, int], training: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    reduction = randomised(FactorizedReduce(3, 4), generator).train(training)
    literal = literal_module(copy.deepcopy(reduction)).train(training)
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=generator)
    padded = torch.zeros(2, 3, size[0] + size[0] % 2, size[1] + size[1] % 2, dtype=torch.float64)
    padded[:, :, : size[0], : size[1]] = x
    weights = torch.randn(2, 4, padded.shape[2] // 2, padded.shape[3] // 2, dtype=torch.float64, generator=generator)
    expected = values_and_gradients(literal, padded, weights)
    expected[1] = expected[1][:, :, : size[0], : size[1]]
    assert_same(values_and_gradients(reduction, x, weights), expected)


def test_factorized_reduction_needs_an_even_width() -> None:
    with pytest.raises(ValueError, match="even number of output channels, got 3"):
        FactorizedReduce(4, 3)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ALL)
def test_network_equals_the_literal_one(name: str, training: bool) -> None:
    """Values, all gradients, and the running statistics that training mode leaves behind."""
    generator = torch.Generator().manual_seed(5)
    network = randomised(network_of(name), generator).train(training)
    literal = literal_network(network).train(training)
    x = torch.randn(4, 3, *((32, 32) if name == "ImageNet" else (16, 12)), dtype=torch.float64, generator=generator)
    weights = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    actual = values_and_gradients(network, x, weights)
    assert not torch.equal(actual[0][0], actual[0][1])
    assert_same(actual, values_and_gradients(literal, x, weights))
    assert_same(list(network.buffers()), list(literal.buffers()))


def relu_sums(network: nn.Module, x: Tensor) -> Tensor:
    """The sum of each ReLU's output, once for each operation that reads it; sorted."""
    sums: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(
                lambda module, _, output: sums.extend([output.sum()] * getattr(module, "readers", 1))
            )
    network(x)
    return torch.stack(sums).sort().values


@pytest.mark.parametrize("name", ALL)
def test_shared_relus_know_how_many_operations_read_them(name: str) -> None:
    network = network_of(name).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    literal = literal_network(network)
    torch.testing.assert_close(relu_sums(network, x), relu_sums(literal, x))


def test_second_derivatives_equal_the_literal_ones() -> None:
    """What the proxies with two backward passes use: the gradient of a gradient's square."""
    generator = torch.Generator().manual_seed(6)
    network = randomised(CellNetwork(known_cell("ROBUST_ZCP"), NetworkSpec(channels=2, layers=3)), generator).eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=generator)
    results = []
    for each in (network, literal_network(network).eval()):
        images = x.clone().requires_grad_()
        (gradient,) = gradients(each(images).square().sum(), [images], create_graph=True)
        results.append(gradients(gradient.square().sum(), [images, *each.parameters()]))
    assert_same(results[0], results[1])


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_second_derivatives_of_a_separable_convolution(stride: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(7)
    module = randomised(SeparableConv(2, 3, stride, dilation), generator).eval()
    names = [name for name, _ in module.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, generator=generator).requires_grad_()

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))
        return result

    assert torch.autograd.gradcheck(run, (x, *values))
    assert torch.autograd.gradgradcheck(run, (x, *values))


def test_phases_are_the_pixels_of_equal_remainders() -> None:
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    phases = to_phases(x, 2)
    assert phases.shape == (8, 3, 2, 3)
    assert torch.equal(phases[2:4], x[:, :, ::2, 1::2])


@pytest.mark.parametrize("size", [3, 5, 7, 9])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("image", [(12, 12), (6, 4), (7, 5), (3, 9)])
def test_gradients_of_depthwise_convolutions(size: int, dilation: int, image: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, *image, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(4, 1, size, size, generator=generator, dtype=torch.float64).requires_grad_()
    expected = torch.nn.functional.conv2d(x, weight, None, 1, dilation * (size // 2), dilation, 4)
    grad = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    out = depthwise(x, weight, dilation)
    assert_same([out, *torch.autograd.grad(out, [x, weight], grad)],
                [expected, *torch.autograd.grad(expected, [x, weight], grad, retain_graph=True)])  # fmt: skip
    products = row_product_gradient(grad, x.detach(), size, dilation)
    assert_same([products], list(torch.autograd.grad(expected, [weight], grad)))


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 1)], ids=str)
def test_networks_of_few_layers_and_any_image_size(layers: int, size: tuple[int, int]) -> None:
    spec = NetworkSpec(channels=2, layers=layers, classes=3, image_size=size, image_channels=1)
    network = CellNetwork(known_cell("CROZE"), spec).eval()
    logits = network(torch.randn(2, 1, *size))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("layers", "expected"), [(1, {0}), (2, {0, 1}), (3, {1, 2}), (8, {2, 5}), (20, {6, 13})])
def test_reduction_layers(layers: int, expected: set[int]) -> None:
    assert reduction_layers(layers) == expected


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_network_on_the_meta_device(training: bool) -> None:
    with torch.device("meta"):
        network = CellNetwork(known_cell("CROZE"), NetworkSpec(channels=4, layers=3)).train(training)
        logits = network(torch.empty(2, 3, 9, 7))
    assert logits.device.type == "meta"
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_float32_agrees_with_float64(training: bool) -> None:
    torch.manual_seed(8)
    network = CellNetwork(known_cell("ROBUST_ZCP"), NetworkSpec(channels=4, layers=3)).train(training)
    double = copy.deepcopy(network).double()
    x = torch.randn(8, 3, 16, 16)
    logits, expected = network(x), double(x.double())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_layout_of_the_images_does_not_matter() -> None:
    network = CellNetwork(known_cell("DARTS_V2"), NetworkSpec(channels=2, layers=2)).eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(network(x), network(x.contiguous(memory_format=torch.channels_last)))


def test_auxiliary_head_speaks_in_training_mode_only() -> None:
    network = CellNetwork(known_cell("DARTS_V2"), NetworkSpec(channels=2, layers=3, classes=7, auxiliary=True))
    x = torch.randn(2, 3, 32, 32)
    logits, auxiliary = network(x)
    assert logits.shape == auxiliary.shape == (2, 7)
    assert network.eval()(x).shape == (2, 7)
    plain = CellNetwork(known_cell("DARTS_V2"), NetworkSpec(channels=2, layers=3, classes=7)).eval()
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("auxiliary.")}
    plain.load_state_dict(state)
    assert torch.equal(plain(x), network(x))


def test_drop_path_zeroes_whole_images_and_scales_the_others() -> None:
    torch.manual_seed(9)
    kept = drop_path(torch.ones(4000, 2, 2, 2), 0.25).flatten(1)
    assert torch.equal(kept.amin(1), kept.amax(1))
    assert set(kept[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert kept.mean().item() == pytest.approx(1.0, abs=0.05)


def test_drop_path_acts_in_training_mode_only() -> None:
    torch.manual_seed(10)
    network = CellNetwork(known_cell("DARTS_V2"), NetworkSpec(channels=2, layers=3))
    x = torch.randn(8, 3, 8, 8)
    in_training = network(x)  # from batch statistics: the running ones, which this changes, do not matter
    in_eval = network.eval()(x)
    network.drop_path_probability = 0.5
    assert torch.equal(network.eval()(x), in_eval)
    assert not torch.equal(network.train()(x), in_training)
    network.drop_path_probability = 0.0
    assert torch.equal(network.train()(x), in_training)


@pytest.mark.parametrize(("operation", "same"), [("skip_connect", True), ("sep_conv_3x3", False)])
def test_drop_path_leaves_identities_alone(operation: str, same: bool) -> None:
    torch.manual_seed(11)
    cell = Cell((((operation, 0), (operation, 1)),), (2,))
    module = CellModule(cell, 4, 4, 2, reduction=False, reduced_before=False).train()
    x = torch.randn(8, 4, 8, 8)
    assert torch.equal(module(x, x, 0.9), module(x, x, 0.0)) == same


@pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_traced_operation_takes_images_of_any_size(dtype: torch.dtype) -> None:
    operation = OPERATIONS["sep_conv_5x5"](4, 2).to(dtype).eval()
    traced = torch.jit.trace(operation, torch.rand(1, 4, 8, 8, dtype=dtype))
    x = torch.rand(3, 4, 12, 9, dtype=dtype)
    torch.testing.assert_close(traced(x), operation(x))
