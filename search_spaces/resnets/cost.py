"""Parameters and MACs of residual networks, counted from the genotype alone."""

from __future__ import annotations

from collections.abc import Iterator

from search_spaces.base import Cost, NetworkSpec
from search_spaces.resnets.genotype import BOTTLENECKS, EXPANSION, REDUCTION, STAGES, ResNetGenotype


def middle(block: str, planes: int) -> tuple[int, int, int]:
    """Of a bottleneck in a stage of ``planes`` channels: channels of each 3x3 convolution, their groups, scales.

    At small sizes a convolution has at least one channel in each group.
    """
    cardinality, scales, multiple = BOTTLENECKS[block]
    return max(1, int(multiple * planes) // (scales * cardinality)) * cardinality, cardinality, scales


def squeezed(channels: int) -> int:
    """Units of the squeeze-and-excitation of so many channels."""
    return max(1, channels // REDUCTION)


def network_cost(genotype: ResNetGenotype, spec: NetworkSpec) -> Cost:
    """The cost of :class:`search_spaces.resnets.network.ResNet`."""
    assert spec.channels is not None
    channels, (h, w) = spec.channels, spec.image_size
    params = 9 * spec.image_channels * channels
    macs = params * h * w
    for stage in range(STAGES):
        planes = spec.channels * 2**stage * genotype.widths[stage]
        for stride, times in ((1 if stage == 0 else 2, 1), (1, genotype.depths[stage] - 1)):
            before, (h, w) = h * w, (-(-h // stride), -(-w // stride))
            cost, out = _block(genotype, channels, planes, stride, before, h * w)
            params, macs, channels = params + times * cost.params, macs + times * cost.macs, out
    classifier = channels * spec.classes
    return Cost(params + 2 * channels + classifier + spec.classes, macs + classifier)


def _block(g: ResNetGenotype, c_in: int, planes: int, stride: int, before: int, after: int) -> tuple[Cost, int]:
    """The cost of a block on ``before`` pixels, ``after`` of which are left; its output channels."""
    out = planes if g.block == "basic" else EXPANSION * planes
    branch = _basic(c_in, planes, after) if g.block == "basic" else _bottleneck(g, c_in, planes, before, after)
    convolutions = list(branch)
    if stride > 1 or c_in != out:
        convolutions.append((c_in * out, after, 0))
    params = 2 * c_in + sum(weights + 2 * normed for weights, _, normed in convolutions)
    macs = sum(weights * pixels for weights, pixels, _ in convolutions)
    excitation = 0 if g.squeeze == "none" else 2 * out * squeezed(out)
    return Cost(params + excitation + (2 * out if g.squeeze == "rse" else 0), macs + excitation), out


def _basic(c_in: int, planes: int, after: int) -> Iterator[tuple[int, int, int]]:
    """Of each convolution the weights, the pixels, and the channels of the batch norm after it."""
    yield 9 * c_in * planes, after, planes
    yield 9 * planes * planes, after, 0


def _bottleneck(g: ResNetGenotype, c_in: int, planes: int, before: int, after: int) -> Iterator[tuple[int, int, int]]:
    width, cardinality, scales = middle(g.block, planes)
    yield c_in * scales * width, before, scales * width
    for _ in range(max(1, scales - 1)):
        yield 9 * width * width // cardinality, after, width
    yield scales * width * EXPANSION * planes, after, 0
