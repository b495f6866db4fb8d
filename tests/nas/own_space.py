"""A search space of a user's own, whose networks have neither channels nor cells."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from search_spaces.base import Cost, NetworkSpec
from tests.searchers.toy_space import Digits, ToySpace


class WidthSpace(ToySpace):
    """Digits that are the widths, less one, of the hidden layers of a linear network."""

    name = "widths"
    default_channels = None
    default_layers = None

    def __init__(self, length: int = 3, base: int = 10):
        super().__init__(length, base)

    def canonical(self, genotype: Digits) -> str:
        return self.format(genotype)

    def check_spec(self, spec: NetworkSpec) -> None:
        if (spec.channels, spec.layers) != (None, None):
            raise ValueError(f"there are neither channels nor layers, got {spec.channels} and {spec.layers}")

    def cost(self, genotype: Digits, spec: NetworkSpec) -> Cost:
        macs = sum(a * b for a, b in pairwise(self._widths(genotype, spec)))
        return Cost(macs + sum(self._widths(genotype, spec)[1:]), macs)

    def build(self, genotype: Digits, spec: NetworkSpec) -> nn.Module:
        layers = [nn.Linear(a, b) for a, b in pairwise(self._widths(genotype, spec))]
        parts = [part for layer in layers for part in (layer, nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *parts[:-1])

    @staticmethod
    def _widths(genotype: Digits, spec: NetworkSpec) -> list[int]:
        pixels = spec.image_channels * spec.image_size[0] * spec.image_size[1]
        return [pixels, *(digit + 1 for digit in genotype), spec.classes]


class OtherWidths(WidthSpace):
    """Of the same name, but its first digit counts from the other end."""

    def canonical(self, genotype: Digits) -> str:
        return self.format((self.base - 1 - genotype[0], *genotype[1:]))


THREE = WidthSpace(3)
