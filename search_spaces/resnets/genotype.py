"""``ResNetGenotype``: a residual network of three stages as a value.

Its text lists block, squeeze-and-excitation, activation and the stages, each of D blocks whose channels are W times
those of the narrowest: ``robust.rse.relu.d14-w5.d14-w7.d7-w3``. In ``wide_resnet`` it is the stages only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import Any

from search_spaces.base import whole_number

STAGES = 3
MOST = 99  # blocks or width of a stage; published networks have at most 28 and 20

#: For each kind of block: cardinality (groups) and scales of its 3x3 convolutions, and their channels in all as a
#: multiple of the stage's. A basic block has two plain convolutions instead. All others are bottlenecks of 17 weights
#: for each pair of the stage's channels: so many have the published bottleneck and robust blocks; for aggregated ones
#: it follows from the 265 M parameters of Table 1, and hierarchical ones alone are made like that too.
BOTTLENECKS = {
    "bottleneck": (1, 1, 1.0), "aggregated": (4, 1, 1.5), "hierarchical": (1, 8, 1.75), "robust": (4, 8, 2.0),
}  # fmt: skip
BLOCKS = ("basic", *BOTTLENECKS)
SQUEEZES = ("none", "se", "rse")  # squeeze-and-excitation: none, the standard one, the residual one
ACTIVATIONS = ("relu", "silu", "softplus", "gelu")
EXPANSION = 4  # a bottleneck has four times as many output channels
REDUCTION = 64  # channels for each unit of squeeze-and-excitation, as in RobustResNets

_STAGE = re.compile(r"d([1-9]\d?)-w([1-9]\d?)", re.ASCII)


@dataclass(frozen=True, order=True, kw_only=True)
class ResNetGenotype:
    """``depths`` are the blocks of the three stages; ``widths`` multiply the channels C, 2 C, 4 C of the stages."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    block: str = "basic"
    squeeze: str = "none"
    activation: str = "relu"

    def __post_init__(self) -> None:
        for name, values in (("depth", self.depths), ("width", self.widths)):
            if len(values) != STAGES:
                raise ValueError(f"{len(values)} stages have a {name}, expected {STAGES}")
            for value in values:
                whole_number(name, value, 1, MOST)

    @property
    def genes(self) -> tuple[Any, ...]:
        """Block, squeeze-and-excitation and activation; then depth and width of each stage."""
        stages = chain.from_iterable(zip(self.depths, self.widths, strict=True))
        return self.block, self.squeeze, self.activation, *stages

    @classmethod
    def of(cls, genes: tuple[Any, ...]) -> ResNetGenotype:
        """The inverse of :attr:`genes`."""
        block, squeeze, activation, *stages = genes
        depths, widths = tuple(stages[::2]), tuple(stages[1::2])
        return cls(depths=depths, widths=widths, block=block, squeeze=squeeze, activation=activation)

    def __str__(self) -> str:
        return f"{self.block}.{self.squeeze}.{self.activation}.{self.stages}"

    @property
    def stages(self) -> str:
        """The text of the stages, such as ``d4-w10.d4-w10.d4-w10``."""
        return ".".join(f"d{depth}-w{width}" for depth, width in zip(self.depths, self.widths, strict=True))


def parse(text: str) -> ResNetGenotype:
    """A genotype from its text, or from the stages alone: these are a wide residual network.

    :raises ValueError: the text is no such genotype; names are not checked.
    """
    parts = text.split(".")
    stages = [_STAGE.fullmatch(part) for part in parts[-STAGES:]]
    if len(parts) not in (STAGES, STAGES + 3) or not all(stages):
        expected = "d4-w10.d4-w10.d4-w10, or block.squeeze.activation before it"
        raise ValueError(f"got {text!r:.60}, expected three stages such as {expected}")
    numbers = [int(number) for stage in stages if stage for number in stage.groups()]
    return ResNetGenotype.of((*(parts[:-STAGES] or ("basic", "none", "relu")), *numbers))
