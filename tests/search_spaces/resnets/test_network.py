"""The blocks against functions written out from the papers, and networks at several image sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.models.classic import PreActivationBlock
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.resnets.genotype import ACTIVATIONS
from search_spaces.resnets.network import ResidualBlock

ROBUST = get_space("robust_resnet")
STAGES = "d1-w1.d1-w1.d1-w1"
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "silu": F.silu, "softplus": F.softplus, "gelu": F.gelu,
}  # fmt: skip


def made(text: str, c_in: int, planes: int, stride: int) -> ResidualBlock:
    """A block in float64, eval mode, with batch norms that are no identity."""
    torch.manual_seed(0)
    block = ResidualBlock(ROBUST.parse(f"{text}.{STAGES}"), c_in, planes, stride).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    return block


def pixels(channels: int, size: tuple[int, int] = (7, 6)) -> Tensor:
    return torch.randn(2, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("c_in", "planes", "stride"), [(6, 6, 1), (6, 8, 1), (6, 6, 2), (5, 8, 2)])
def test_a_basic_block_is_that_of_the_hand_crafted_wide_resnet(c_in: int, planes: int, stride: int) -> None:
    block = made("basic.none.relu", c_in, planes, stride)
    other = PreActivationBlock(c_in, planes, stride).double().eval()
    for (_, theirs), ours in zip(
        sorted(other.state_dict().items(), key=lambda item: ORDER[item[0].split(".")[0]]),
        [each for module in _in_order(block) for each in module.state_dict().values()],
        strict=True,
    ):
        theirs.copy_(ours)
    torch.testing.assert_close(block(pixels(c_in)), other(pixels(c_in)))


ORDER = {name: place for place, name in enumerate(("norm1", "conv1", "norm2", "conv2", "shortcut"))}


def _in_order(block: ResidualBlock) -> list[nn.Module]:
    first, last = block.branch[0], block.branch[2]
    return [block.norm, first.conv, first.norm, last, *([] if block.shortcut is None else [block.shortcut])]


def robust_block(block: ResidualBlock, x: Tensor, act: Callable[[Tensor], Tensor], groups: int) -> Tensor:
    """A pre-activation bottleneck of eight scales, with residual squeeze-and-excitation, weight by weight."""
    before, _, middle, last = block.branch
    stride = block.stride
    activated = act(block.norm(x))
    inner = act(before.norm(F.conv2d(activated, before.conv.weight)))
    parts = inner.chunk(8, dim=1)
    outputs: list[Tensor] = []
    for index in range(7):
        read = parts[index] + outputs[-1] if index > 0 and stride == 1 else parts[index]
        conv = middle.convs[index]
        outputs.append(act(conv.norm(F.conv2d(read, conv.conv.weight, stride=stride, padding=1, groups=groups))))
    outputs.append(parts[7] if stride == 1 else F.avg_pool2d(parts[7], 3, stride, 1))
    out = F.conv2d(torch.cat(outputs, 1), last.weight)
    assert block.excitation is not None and block.excitation_norm is not None
    normed = block.excitation_norm(out)
    hidden = act(normed.mean((2, 3)) @ block.excitation.squeeze.weight.t())
    excited = normed * torch.sigmoid(hidden @ block.excitation.excite.weight.t())[:, :, None, None]
    shortcut = x if block.shortcut is None else F.conv2d(activated, block.shortcut.weight, stride=stride)
    return out + shortcut + excited


@pytest.mark.parametrize(("c_in", "stride"), [(64, 1), (6, 1), (64, 2)])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_robust_block_is_that_of_the_paper(c_in: int, stride: int, activation: str) -> None:
    block = made(f"robust.rse.{activation}", c_in, 16, stride)
    expected = robust_block(block, pixels(c_in), FUNCTIONS[activation], groups=4)
    torch.testing.assert_close(block(pixels(c_in)), expected)
    assert block.branch[2].convs[0].conv.weight.shape == (4, 1, 3, 3)  # 2 x 16 channels in 8 scales, 4 groups


@pytest.mark.parametrize(("text", "shapes"), [
    ("bottleneck", [(16, 64, 1, 1), (16, 16, 3, 3), (64, 16, 1, 1)]),
    ("aggregated", [(24, 64, 1, 1), (24, 6, 3, 3), (64, 24, 1, 1)]),
    ("hierarchical", [(24, 64, 1, 1), *7 * [(3, 3, 3, 3)], (64, 24, 1, 1)]),
])  # fmt: skip
def test_the_convolutions_of_a_bottleneck(text: str, shapes: list[tuple[int, ...]]) -> None:
    block = made(f"{text}.none.relu", 64, 16, 1)
    assert [tuple(m.weight.shape) for m in block.branch.modules() if isinstance(m, nn.Conv2d)] == shapes


def test_standard_squeeze_and_excitation_weighs_the_branch() -> None:
    block = made("basic.se.relu", 8, 8, 1)
    x = pixels(8)
    branch = block.branch(F.relu(block.norm(x)))
    assert block.excitation is not None
    units = F.relu(branch.mean((2, 3)) @ block.excitation.squeeze.weight.t())
    weights = torch.sigmoid(units @ block.excitation.excite.weight.t())
    torch.testing.assert_close(block(x), x + branch * weights[:, :, None, None])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_has_one_kind_of_activation(activation: str) -> None:
    network = ROBUST.build(ROBUST.parse(f"robust.rse.{activation}.{STAGES}"), NetworkSpec(channels=1, layers=None))
    kinds = {type(m).__name__.lower() for m in network.modules() if type(m).__module__.endswith("activation")}
    assert kinds == {activation}


@pytest.mark.parametrize("text", ["basic.none.relu", "robust.rse.silu", "hierarchical.se.relu"])
@pytest.mark.parametrize("size", [32, 64])
def test_every_parameter_has_a_gradient(text: str, size: int) -> None:
    spec = NetworkSpec(channels=2, layers=None, image_size=(size, size))
    torch.manual_seed(0)
    network = ROBUST.build(ROBUST.parse(f"{text}.d2-w2.d1-w2.d1-w3"), spec).train()
    logits = network(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 10)
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in network.parameters())


@pytest.mark.parametrize("text", ["basic.none.relu", "robust.rse.gelu", "aggregated.se.softplus"])
def test_folded_batch_norms_change_neither_logits_nor_gradients(text: str) -> None:
    torch.manual_seed(0)
    genotype = ROBUST.parse(f"{text}.d1-w2.d2-w2.d1-w2")
    network = ROBUST.build(genotype, NetworkSpec(channels=2, layers=None)).double().eval()
    images = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    expected = torch.autograd.grad(network(images).sum(), list(network.parameters()))
    with network.folded() as folded:
        assert len(folded.leaves) < len(expected)
        found = folded.gradients(torch.autograd.grad(network(images).sum(), folded.leaves))
    for name, gradient in zip(dict(network.named_parameters()), expected, strict=True):
        torch.testing.assert_close(found[name], gradient)
