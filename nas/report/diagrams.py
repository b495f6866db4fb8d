"""Cells as diagrams: named vertices and labelled links, independent of the notation of the genotype.

Three kinds of notation are understood: those of :mod:`search_spaces.cells.notation` (named cells), that of
NAS-Bench-201, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`` (one cell with one input; Dong and Yang, ICLR 2020,
https://arxiv.org/abs/2001.00326), and that of residual networks (:mod:`search_spaces.resnets.genotype`), whose diagram
shows the stages. For any other text there is no diagram, and the page shows only the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from search_spaces.base import MOST
from search_spaces.cells.genotype import INPUTS, Cell, GenotypeError, LayeredCells
from search_spaces.cells.notation import format_compact, parse_stack
from search_spaces.resnets import genotype as resnets

#: Kinds of operations in the order of the legend; each has a title and a pattern for the names of its operations.
KINDS = {
    "separable": ("separable convolution", re.compile(r"sep_conv_\dx\d")),
    "dilated": ("dilated convolution", re.compile(r"dil_conv_\dx\d")),
    "convolution": ("plain convolution", re.compile(r"(nor_)?conv_[\dx_]+")),
    "pooling": ("pooling", re.compile(r"(max|avg)_pool_\dx\d")),
    "skip": ("skip connection", re.compile(r"skip_connect")),
    "none": ("no connection", re.compile(r"none")),
    "other": ("other", re.compile(r".*", re.DOTALL)),
}

_KINDS_OF_CELLS = {"normal": "normal", "reduce": "reduction"}


def kind_of(operation: str) -> str:
    """The kind of an operation, a key of :data:`KINDS`."""
    return next(kind for kind, (_, pattern) in KINDS.items() if pattern.fullmatch(operation))


@dataclass(frozen=True)
class Link:
    """A link from one vertex to a later one.

    ``operation`` is empty if the tensor is passed on unchanged; ``times`` says how often it is then concatenated.
    ``text`` stands on a link that is no operation of a cell.
    """

    source: int
    target: int
    operation: str = ""
    times: int = 1
    text: str = ""

    @property
    def label(self) -> str:
        """The text on the link; it may be empty."""
        return self.text or self.operation or (f"\N{MULTIPLICATION SIGN}{self.times}" if self.times > 1 else "")


@dataclass(frozen=True)
class Diagram:
    """One cell. Every link goes from a vertex with a lower number to one with a higher; the last one is the output."""

    title: str
    vertices: tuple[str, ...]
    links: tuple[Link, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations on the links of the cell."""
        return tuple(link.operation for link in self.links if link.operation)


def diagrams(genotype: str, layers: int | None = None) -> tuple[Diagram, ...]:
    """The diagrams of a genotype's cells, one for each different cell, or of a residual network's stages.

    Empty for a text in no known notation.

    :param layers: of the network. Where cells are listed in the order of the layers, the titles say at which layers a
        cell stands, and cells that stand at none are left out. None, or more than a network can have: as many as there
        are cells.
    """
    try:
        stack = parse_stack(genotype)
    except GenotypeError:
        return _nasbench201(genotype) or _stages(genotype)
    if isinstance(stack, LayeredCells) and layers is not None and layers <= MOST["layers"]:
        stack = LayeredCells(tuple(stack.cell(layer, layers) for layer in range(layers)))
    cells = stack.named_cells()
    names: dict[Cell, list[str]] = {}
    for name, cell in cells.items():
        names.setdefault(cell, []).append(name)
    return tuple(_diagram(_title(alike), cell) for cell, alike in names.items())


def _title(names: list[str]) -> str:
    """What stands over the cell of these names: ``Normal and reduction cell``, ``Cell of layers 0, 2 to 4``."""
    if names[0] in _KINDS_OF_CELLS:
        return f"{' and '.join(_KINDS_OF_CELLS[name] for name in names)} cell".capitalize()
    layers = [int(name.rpartition(".")[2]) for name in names]
    runs = [[layer for _, layer in run] for _, run in groupby(enumerate(layers), lambda place: place[1] - place[0])]
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"Cell of layer{'s' * (len(names) > 1)} {', '.join(texts)}"


def _diagram(title: str, cell: Cell) -> Diagram:
    output = INPUTS + len(cell.nodes)
    links = [
        Link(source, target, operation)
        for target, node in enumerate(cell.nodes, start=INPUTS)
        for operation, source in node
    ]
    links += [Link(entry, output, times=cell.concat.count(entry)) for entry in sorted(set(cell.concat))]
    return Diagram(title, ("c_{k-2}", "c_{k-1}", *map(str, range(INPUTS, output)), "output"), tuple(links))


def _nasbench201(text: str) -> tuple[Diagram, ...]:
    nodes = text.strip().split("+")
    links = []
    for target, node in enumerate(nodes, start=1):
        edges = re.findall(r"([\w.-]{1,40})~(\d{1,2})(?=\|)", node)
        if node != f"|{''.join(f'{operation}~{source}|' for operation, source in edges)}" or not edges:
            return ()
        links += [Link(int(source), target, operation) for operation, source in edges]
    if any(link.source >= link.target for link in links):
        return ()
    return (Diagram("Cell", ("input", *map(str, range(1, len(nodes))), "output"), tuple(links)),)


def _stages(text: str) -> tuple[Diagram, ...]:
    try:
        network = resnets.parse(text.strip())
    except ValueError:
        return ()
    stages = zip(network.depths, network.widths, strict=True)
    links = [
        Link(index, index + 1, text=f"{depth} block{'s' * (depth > 1)}, width {width}")
        for index, (depth, width) in enumerate(stages)
    ]
    squeeze = {"se": ", squeeze-and-excitation", "rse": ", residual squeeze-and-excitation"}.get(network.squeeze, "")
    title = f"Network of {network.block} blocks{squeeze}, {network.activation}"
    vertices = ("image", *(str(stage + 1) for stage in range(len(links))), "output")
    return (Diagram(title, vertices, (*links, Link(len(links), len(links) + 1))),)


def short_lines(genotype: str, length: int = 64) -> tuple[str, ...]:
    """A genotype in short lines, for a table.

    The compact notation has one line per cell, that of NAS-Bench-201 one line per node; of any other text, the first
    ``length`` characters are shown.
    """
    try:
        return tuple(format_compact(parse_stack(genotype)).split("/"))
    except (GenotypeError, KeyError):  # another notation, or an operation without a short name
        if _nasbench201(genotype) and len(genotype) <= 4 * length:
            return tuple(genotype.strip().split("+"))
        return (genotype if len(genotype) <= length else f"{genotype[: length - 1]}\N{HORIZONTAL ELLIPSIS}",)
