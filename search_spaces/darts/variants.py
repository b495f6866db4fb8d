"""Spaces of the genotypes of DARTS with other operations, other edges, or the ImageNet network.

``darts10`` is the space that CRoZe searches (Ha et al., NeurIPS 2023, https://arxiv.org/abs/2306.05031). It has ten
operations, those of DARTS and two larger kernels of NASNet (Zoph et al., CVPR 2018), of which ``none`` is never
sampled; and all 14 edges of a cell: each node reads both inputs and all nodes before it. Departures: CRoZe's program
also samples which nodes a cell concatenates, some of them several times, and rejects cells of more than 6 million
parameters at 36 channels and 20 layers (here the option ``--max-params``). And although it samples edges into four
nodes, of 2, 3, 4 and 5 edges, its network reads their list in pairs, as seven nodes of two edges each, and concatenates
only nodes 2 to 5. The networks have equally many parameters.

``darts_imagenet`` builds DARTS' ImageNet network: two stems reduce 224x224 pixels to the 28x28 of the first cell. Its
published size is 48 channels and 14 layers. ``darts10_imagenet`` is both.
"""

from __future__ import annotations

import numpy as np

from search_spaces.base import NetworkSpec, SearchSpace
from search_spaces.cells.genotype import INPUTS, Cell, CellGenotype
from search_spaces.darts.space import CELLS, DARTS_OPERATIONS, EDGES, NODES, DartsSpace

LEAST_PIXELS_AUXILIARY = 193  # a 32nd of it, rounded up, is 7: what the auxiliary head of the ImageNet network needs


class Darts10Space(DartsSpace):
    """Cells of four nodes that read all before them, each through one of nine operations."""

    name = "darts10"
    derived_edges = EDGES
    operations = (*DARTS_OPERATIONS, "sep_conv_7x7", "conv_7x1_1x7")

    def sample(self, rng: np.random.Generator) -> CellGenotype:
        """Uniform over the operations of all edges."""
        drawn = iter(rng.integers(len(self.operations), size=len(CELLS) * EDGES).tolist())
        ends = range(INPUTS, INPUTS + NODES)
        cells = (tuple(tuple((self.operations[next(drawn)], j) for j in range(i)) for i in ends) for _ in CELLS)
        return CellGenotype(*(Cell(nodes, tuple(ends)) for nodes in cells))

    sample_published = SearchSpace.sample_published  # CRoZe's program draws from no seed


class DartsImageNetSpace(DartsSpace):
    """The cells of DARTS in its ImageNet network."""

    name = "darts_imagenet"
    imagenet = True

    def check_spec(self, spec: NetworkSpec) -> None:
        channels, _ = spec.stack
        if channels % 2:
            raise ValueError(f"channels must be even in the space '{self.name}', got {channels}")
        if spec.auxiliary and min(spec.image_size) < LEAST_PIXELS_AUXILIARY:
            least, (height, width) = LEAST_PIXELS_AUXILIARY, spec.image_size
            raise ValueError(
                f"an auxiliary head needs images of at least {least}x{least} pixels in the space '{self.name}', got"
                f" {height}x{width}"
            )


class Darts10ImageNetSpace(DartsImageNetSpace, Darts10Space):
    """The cells of ``darts10`` in the ImageNet network."""

    name = "darts10_imagenet"
