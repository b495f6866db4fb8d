"""The C library against torch in float64, and what it leaves to torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.literal import literal_network
from search_spaces import get_space, native
from search_spaces.base import NetworkSpec
from search_spaces.kernels import convolved, depthwise
from search_spaces.native import library_for
from search_spaces.native_library import Library

DTYPES = torch.float32, torch.float64
both_types = pytest.mark.parametrize("dtype", DTYPES, ids=["float", "double"])


def near(found: Tensor, expected: Tensor, least: float) -> None:
    """Equal up to rounding: in float32 up to ``least``, relative and absolute."""
    tolerance = least if found.dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=10 * tolerance)


def for_type(library: Library, dtype: torch.dtype) -> Library:
    """The library of another type, where there is that of float32."""
    found = native.library(dtype)
    assert found is not None and (found is library) == (dtype == torch.float32)
    return found


def batch(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return made.contiguous(memory_format=torch.channels_last)


def reference(x: Tensor, weight: Tensor, dilation: int, stride: int, gradient: Tensor | None = None) -> list[Tensor]:
    """torch's convolution in float64 and, from the output's gradient, those of input and weight."""
    x, weight = (each.double().requires_grad_() for each in (x, weight))
    out = F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, len(weight))
    return [out] if gradient is None else list(torch.autograd.grad(out, [x, weight], gradient.double()))


@both_types
@pytest.mark.parametrize("channels", [1, 3, 16, 20, 36, 64])
@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "stride"),
    [
        ((8, 8), 3, 1, 1), ((9, 17), 5, 1, 1), ((9, 7), 3, 2, 1), ((16, 10), 5, 2, 1), ((1, 1), 5, 2, 1),
        ((2, 3), 5, 1, 1), ((9, 7), 3, 1, 2), ((8, 10), 5, 1, 2), ((9, 11), 7, 1, 1), ((7, 9), 3, 3, 1),
        ((6, 8), 7, 1, 2), ((9, 8), 3, 1, 3), ((9, 10), 5, 2, 2),
    ],
)  # fmt: skip
def test_values_and_gradients(
    library: Library, channels: int, size: tuple[int, int], kernel: int, dilation: int, stride: int, dtype: torch.dtype
) -> None:
    library = for_type(library, dtype)
    x, weight = batch((3, channels, *size), 0, dtype), batch((channels, 1, kernel, kernel), 1, dtype)
    out = library.depthwise(x, weight, dilation, stride)
    (expected,) = reference(x, weight, dilation, stride)
    near(out, expected, 1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    gradient = batch(tuple(out.shape), 2, dtype)
    by_x, by_weight = reference(x, weight, dilation, stride, gradient)
    found = library.depthwise_by_weight(gradient, x, weight, dilation, stride)
    near(found, by_weight, 1e-4)
    near(library.depthwise_by_image(gradient, x, weight, dilation, stride), by_x, 1e-5)


@both_types
@pytest.mark.parametrize("added", ["nothing", "row", "matrix"])
@pytest.mark.parametrize(("rows", "c", "o"), [(1, 16, 16), (7, 16, 48), (1025, 48, 16), (2100, 32, 32), (40, 64, 80)])
def test_pointwise(library: Library, rows: int, c: int, o: int, added: str, dtype: torch.dtype) -> None:
    library = for_type(library, dtype)
    x, weight, gradient = (torch.randn(size, dtype=dtype) for size in ((rows, c), (o, c, 1, 1), (rows, o)))
    plus = {"nothing": None, "row": torch.randn(o, dtype=dtype), "matrix": torch.randn(rows, o, dtype=dtype)}[added]
    expected = x.double() @ weight[:, :, 0, 0].double().t() + (0 if plus is None else plus.double())
    found = library.pointwise(x, weight, plus)
    near(found, expected, 1e-5)
    assert (found is plus) == (added == "matrix")
    into = None if plus is None else torch.randn(rows, c, dtype=dtype)
    by_x = gradient.double() @ weight[:, :, 0, 0].double() + (0 if into is None else into.double())
    by_weight = gradient.double().t() @ x.double()
    strided = torch.randn(rows, 3 * o, dtype=dtype)
    strided[:, o : 2 * o] = gradient
    found_x, found_weight = library.pointwise_gradients(strided[:, o : 2 * o], x, weight, into, True)
    near(found_x, by_x, 1e-5)
    assert found_weight is not None
    near(found_weight[:, :, 0, 0], by_weight, 1e-4)
    assert library.pointwise_gradients(gradient, x, weight, None, False)[1] is None


@both_types
@pytest.mark.parametrize("added", ["nothing", "row", "matrix"])
@pytest.mark.parametrize(
    ("size", "c", "o", "kernel", "dilation", "stride"),
    [
        ((8, 8), 16, 16, 3, 1, 1), ((9, 7), 32, 48, 5, 1, 1), ((4, 11), 48, 16, 5, 2, 1), ((1, 1), 16, 32, 3, 2, 1),
        ((9, 8), 16, 16, 7, 1, 1), ((9, 8), 32, 32, 5, 1, 2), ((8, 7), 16, 48, 3, 1, 2), ((11, 10), 16, 16, 7, 1, 2),
        ((9, 9), 16, 16, 3, 2, 3),
    ],
)  # fmt: skip
def test_separable(
    library: Library, size: tuple[int, int], c: int, o: int, kernel: int, dilation: int, stride: int, added: str,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    library = for_type(library, dtype)
    shapes = (3, c, *size), (c, 1, kernel, kernel), (o, c, 1, 1)
    x, weight, pointwise = (batch(shape, i, dtype) for i, shape in enumerate(shapes))
    leaves = [each.double().requires_grad_() for each in (x, weight, pointwise)]
    between = F.conv2d(leaves[0], leaves[1], None, stride, dilation * (kernel // 2), dilation, c)
    out = F.conv2d(between, leaves[2]).permute(0, 2, 3, 1).flatten(0, 2)
    plus = {"nothing": None, "row": torch.randn(o, dtype=dtype), "matrix": torch.randn(out.shape, dtype=dtype)}[added]
    expected = out.detach() + (0 if plus is None else plus.double())
    middle, found = library.separable(x, weight, pointwise, dilation, stride, plus)
    near(middle, between.detach(), 1e-5)
    near(found, expected, 1e-5)
    gradient = torch.randn(out.shape, dtype=dtype)
    into = None if plus is None else torch.randn(3 * size[0] * size[1], c, dtype=dtype)
    by_x, by_weight, by_pointwise = torch.autograd.grad(out, leaves, gradient.double())
    by_x = by_x.permute(0, 2, 3, 1).flatten(0, 2) + (0 if into is None else into.double())
    options = (x, middle, weight, pointwise, dilation, stride, into)
    strided = torch.cat([gradient, gradient], 1)[:, o:]
    for given, wanted in ((strided, (True, True)), (gradient, (False, False))):
        copy = None if into is None else into.clone()
        by = library.separable_gradients(given, *options[:-1], copy, wanted)
        near(by[0], by_x, 1e-5)
        assert (by[1] is not None, by[2] is not None) == wanted
    by = library.separable_gradients(gradient, *options, (True, True))
    for each, theirs in zip(by[1:], (by_weight, by_pointwise), strict=True):
        assert each is not None
        near(each, theirs, 1e-4)


@pytest.mark.parametrize("channels", [16, 12])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cell", ["ROBUST_ZCP", "DARTS_V2", "CROZE", "NASNet", "LRNAS"])
def test_networks_agree_with_torch(library: Library, cell: str, training: bool, channels: int) -> None:
    """Logits and all gradients, of a network that C computes, and of one that torch does, in float64."""
    space = get_space("darts")
    torch.manual_seed(0)
    spec = NetworkSpec(channels=channels, layers=4, classes=5, image_size=(16, 16))
    network = space.build(space.parse(cell), spec).train(training)
    literal = literal_network(network).double()
    images = batch((4, 3, 16, 16), 3)
    leaves = images.clone().requires_grad_(), images.double().requires_grad_()
    logits = [each(x) for each, x in zip((network, literal), leaves, strict=True)]
    torch.testing.assert_close(logits[0].double(), logits[1], rtol=1e-3, atol=1e-3)
    weights = torch.randn(logits[0].shape)
    found, expected = (
        torch.autograd.grad((out * weights).sum(), [x, *net.parameters()], allow_unused=True)
        for out, x, net in zip(logits, leaves, (network, literal), strict=True)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert (ours.double() - theirs).norm() <= 2e-3 * theirs.norm() + 1e-3


@pytest.mark.parametrize("dilation, stride", [(1, 1), (2, 1), (1, 2)])
def test_the_differentiable_convolution_uses_it(library: Library, dilation: int, stride: int) -> None:
    x, weight = batch((2, 24, 10, 12), 0).requires_grad_(), batch((24, 1, 5, 5), 1).requires_grad_()
    out = depthwise(x, weight, dilation, stride)
    gradient = batch(tuple(out.shape), 2)
    found = torch.autograd.grad(out, [x, weight], gradient)
    for each, expected in zip(found, reference(x, weight, dilation, stride, gradient), strict=True):
        torch.testing.assert_close(each.double(), expected, rtol=1e-4, atol=1e-4)


def test_images_in_any_layout(library: Library) -> None:
    x, weight = batch((2, 16, 9, 8), 0), batch((16, 1, 3, 3), 1)
    expected = library.depthwise(x, weight, 1, 1)
    for other in (x.contiguous(), x.flip(3).flip(3), torch.cat([x, x], 1)[:, :16]):
        torch.testing.assert_close(library.depthwise(other, weight, 1, 1), expected, rtol=0, atol=0)
    turned = weight.transpose(2, 3)
    torch.testing.assert_close(library.depthwise(x, turned, 1, 1), convolved(x, turned.contiguous(), 1))


class Marked(Tensor):
    """A tensor that wants to see what is done with it."""


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.double(),
        lambda x: x.half(),
        lambda x: x.to("meta"),
        lambda x: x.clone().requires_grad_(),
        lambda x: x.as_subclass(Marked),
    ],
)
def test_tensors_that_it_leaves_to_torch(library: Library, change: Callable[[Tensor], Tensor]) -> None:
    x = torch.rand(2, 3, 4, 4)
    assert library_for(x, x) is library
    assert library_for(x, change(x)) is None and library_for(change(x), x) is None
    assert library_for(x.double(), x.double()) is native.library(torch.float64)
    assert library_for(x.half()) is None
    with torch.no_grad():
        assert library_for(x.clone().requires_grad_()) is library


def test_what_it_is_not_made_for_goes_to_torch(library: Library) -> None:
    x = torch.rand(1, 16, 12, 12)
    for weight in (torch.rand(16, 1, 9, 9), torch.rand(16, 1, 4, 4), torch.rand(48, 1, 3, 3), torch.rand(16, 2, 3, 3)):
        assert native.depthwise_library(x, weight) is None
    assert native.depthwise_library(x, torch.rand(16, 1, 7, 7)) is library
    with pytest.raises(RuntimeError):
        convolved(x, torch.rand(48, 1, 3, 3), 1)


def test_many_gradients_at_a_time(library: Library) -> None:
    space = get_space("darts")
    network = space.build(space.parse("ROBUST_ZCP"), NetworkSpec(channels=16, layers=3, classes=3)).eval()
    x = torch.rand(2, 3, 16, 16).requires_grad_()
    (jacobian,) = torch.autograd.grad(
        network(x).sum(0), x, torch.eye(3), is_grads_batched=True
    )  # fmt: skip
    for i in range(3):
        (expected,) = torch.autograd.grad(network(x).sum(0)[i], x)
        torch.testing.assert_close(jacobian[i], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_forward_mode_is_left_to_torch(library: Library) -> None:
    x, weight = batch((1, 4, 6, 6), 0), batch((4, 1, 3, 3), 1)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(convolved(forward_ad.make_dual(x, torch.ones_like(x)), weight, 1)).tangent
    assert tangent is not None
    torch.testing.assert_close(tangent, F.conv2d(torch.ones_like(x), weight, None, 1, 1, groups=4))


def test_who_watches_sees_torch(library: Library) -> None:
    x, weight = torch.rand(2, 3, 8, 8), torch.rand(3, 1, 3, 3)
    with FlopCounterMode(display=False) as counter:
        convolved(x, weight, 1)
    assert counter.get_total_flops() == 2 * 2 * 3 * 64 * 9
    torch.func.vmap(lambda each: convolved(each, weight, 1))(x.unsqueeze(0))
    torch.set_num_threads(2)
    assert library_for(x) is None
