"""Two spaces of residual networks of three stages, whose genes are depths and widths.

``wide_resnet``: the 15,625 wide residual networks of NARes ("A Neural Architecture Dataset for Adversarial Robustness",
https://github.com/zhichao-lu/arch-dataset-adv-robustness). ``robust_resnet``: those of Huang et al. (CVPR 2023,
https://arxiv.org/abs/2212.11005), which also differ in the kind of block, squeeze-and-excitation and the activation.

``NetworkSpec.channels`` is C, the channels of the first convolution; the stages have C, 2 C and 4 C times their width.
Published networks have 16. The default, 4, has a sixteenth of their MACs, so that a CPU can score them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces.base import Cost, NetworkSpec, SearchSpace, unknown_name
from search_spaces.cells.literal import stripped_text
from search_spaces.resnets import genotype as notation
from search_spaces.resnets.cost import network_cost
from search_spaces.resnets.genotype import ACTIVATIONS, BLOCKS, SQUEEZES, STAGES, ResNetGenotype

if TYPE_CHECKING:
    from search_spaces.resnets.network import ResNet

PUBLISHED_CHANNELS = 16
_NAMED = ("block", "squeeze", "activation")  # genes that are words
_WIDE = re.compile(r"wrn[-_](\d{1,3})[-_](\d{1,2})", re.IGNORECASE | re.ASCII)

#: RobustScaling's depths and widths at 5, 10, 20 and 40 G MACs
_SCALED = {
    "A1": ((14, 14, 7), (5, 7, 3)),
    "A2": ((17, 17, 8), (7, 9, 4)),
    "A3": ((22, 22, 11), (8, 11, 5)),
    "A4": ((27, 28, 13), (10, 14, 6)),
}


class WideResNetSpace(SearchSpace[ResNetGenotype]):
    """Wide residual networks by depth and width of their stages, as NARes has them."""

    name = "wide_resnet"
    default_channels = 4
    published_channels = PUBLISHED_CHANNELS
    default_layers = None
    #: For each of :attr:`ResNetGenotype.genes`, the values that are sampled. Other depths and widths can be parsed.
    choices: tuple[tuple[Any, ...], ...] = (
        ("basic",), ("none",), ("relu",), *STAGES * ((4, 5, 7, 9, 11), (8, 10, 12, 14, 16))
    )  # fmt: skip

    def sample(self, rng: np.random.Generator) -> ResNetGenotype:
        """Each gene uniformly at random."""
        drawn = rng.integers([len(values) for values in self.choices]).tolist()
        return ResNetGenotype.of(tuple(values[index] for values, index in zip(self.choices, drawn, strict=True)))

    def published(self) -> dict[str, ResNetGenotype]:
        """Wide ResNets; those scaled by the rule of Huang et al. are ``WRN-A1`` to ``WRN-A4``."""
        wide = {name: _wide(name) for name in ("WRN-28-10", "WRN-34-10", "WRN-46-14", "WRN-70-16")}
        scaled = {f"WRN-{name}": ResNetGenotype(depths=d, widths=w) for name, (d, w) in _SCALED.items()}
        return {name: genotype for name, genotype in wide.items() if genotype} | scaled

    def mutate(self, genotype: ResNetGenotype, rng: np.random.Generator) -> ResNetGenotype:
        """Another value of one gene; gene and value are drawn uniformly."""
        changeable = [place for place, values in enumerate(self.choices) if len(values) > 1]
        place = changeable[rng.integers(len(changeable))]
        others = self._others(genotype, place)
        return _with(genotype, place, others[rng.integers(len(others))])

    def crossover(self, a: ResNetGenotype, b: ResNetGenotype, rng: np.random.Generator) -> ResNetGenotype:
        """Takes each gene from one of the parents, at random."""
        from_b = rng.integers(2, size=len(self.choices)).tolist()
        pairs = zip(a.genes, b.genes, from_b, strict=True)
        return ResNetGenotype.of(tuple(theirs if other else ours for ours, theirs, other in pairs))

    def neighbours(self, genotype: ResNetGenotype) -> Iterator[ResNetGenotype]:
        """All genotypes that differ in one gene."""
        for place in range(len(self.choices)):
            for value in self._others(genotype, place):
                yield _with(genotype, place, value)

    def _others(self, genotype: ResNetGenotype, place: int) -> list[Any]:
        return [value for value in self.choices[place] if value != genotype.genes[place]]

    def canonical(self, genotype: ResNetGenotype) -> str:
        """The text: networks of different genotypes differ."""
        return self.format(genotype)

    def format(self, genotype: ResNetGenotype) -> str:
        return genotype.stages

    def parse(self, text: str) -> ResNetGenotype:
        """A genotype from its text, or a name: a published one, or ``WRN-n-k`` of depth n = 6 d + 4 and width k.

        :raises ValueError: naming what is wrong.
        """
        words = stripped_text(text)
        names = {name.lower(): genotype for name, genotype in self.published().items()}
        if found := names.get(words.lower()) or _wide(words):
            return found
        if words and "." not in words:
            raise ValueError(f"{unknown_name('network', words, self.published())}; or stages, d4-w10.d4-w10.d4-w10")
        genotype = notation.parse(words)
        for what, name, values in zip(_NAMED, genotype.genes, self.choices, strict=False):
            if name not in values:
                raise ValueError(f"{unknown_name(what, name, values)} in the space '{self.name}'")
        return genotype

    def count(self, genotype: ResNetGenotype, path: str) -> int:
        """``stage1.depth``, ``stage1.width``, ...; ``depth``: all blocks; the blocks with a gene, such as ``silu``."""
        paths = {"depth": sum(genotype.depths)}
        for stage in range(STAGES):
            paths[f"stage{stage + 1}.depth"] = genotype.depths[stage]
            paths[f"stage{stage + 1}.width"] = genotype.widths[stage]
        for gene, values in zip(genotype.genes, self.choices[: len(_NAMED)], strict=False):
            paths |= {value: sum(genotype.depths) * (gene == value) for value in values if value != "none"}
        if path not in paths:
            raise ValueError(unknown_name("path", path, paths))
        return paths[path]

    def encode(self, genotype: ResNetGenotype) -> np.ndarray:
        """Depths and widths as numbers, and a bit for each value of a gene that is a word: ``(6,)``, or ``(18,)``."""
        bits = [
            float(gene == value)
            for gene, values in zip(genotype.genes, self.choices[: len(_NAMED)], strict=False)
            if len(values) > 1
            for value in values
        ]
        return np.array([*bits, *genotype.genes[len(_NAMED) :]], dtype=float)

    def check_spec(self, spec: NetworkSpec) -> None:
        if spec.layers is not None or spec.channels is None:
            got = f"{spec.channels} and {spec.layers}, expected NetworkSpec(channels=..., layers=None)"
            raise ValueError(f"networks of the space '{self.name}' have channels and no number of layers, got {got}")
        self._refuse_auxiliary(spec)

    def cost(self, genotype: ResNetGenotype, spec: NetworkSpec) -> Cost:
        self.check_spec(spec)
        return network_cost(genotype, spec)

    def build(self, genotype: ResNetGenotype, spec: NetworkSpec) -> ResNet:
        from search_spaces.resnets.network import ResNet

        self.check_spec(spec)
        return ResNet(genotype, spec)


class RobustResNetSpace(WideResNetSpace):
    """Residual networks of several kinds of block, with squeeze-and-excitation and smooth activations.

    Depths and widths are those that the paper scales independently, and those of RobustResNet-A1.
    """

    name = "robust_resnet"
    choices = (
        BLOCKS, SQUEEZES, ACTIVATIONS,
        *STAGES * ((2, 3, 4, 5, 7, 9, 11, 14), (3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20)),
    )  # fmt: skip

    def published(self) -> dict[str, ResNetGenotype]:
        """``RobustResNet-A1`` to ``A4``."""
        return {
            f"RobustResNet-{name}": ResNetGenotype(depths=depths, widths=widths, block="robust", squeeze="rse")
            for name, (depths, widths) in _SCALED.items()
        }

    def format(self, genotype: ResNetGenotype) -> str:
        return str(genotype)


def _with(genotype: ResNetGenotype, place: int, value: Any) -> ResNetGenotype:
    genes = genotype.genes
    return ResNetGenotype.of((*genes[:place], value, *genes[place + 1 :]))


def _wide(name: str) -> ResNetGenotype | None:
    """The network of a name such as ``WRN-28-10``; None if it is none."""
    match = _WIDE.fullmatch(name)
    depth, rest = divmod(int(match[1]) - 4, 2 * STAGES) if match else (0, 0)
    if match is None or rest or depth < 1 or int(match[2]) < 1:
        return None
    return ResNetGenotype(depths=STAGES * (depth,), widths=STAGES * (int(match[2]),))
