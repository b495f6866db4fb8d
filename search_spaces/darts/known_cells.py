"""Published cells by name, read from ``known_cells.json`` on first use.

The file holds facts taken from the papers and their programs: each cell's genotype in the published text notation.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from search_spaces.base import unknown_name
from search_spaces.cells.genotype import CellGenotype, GenotypeError
from search_spaces.cells.notation import parse

if TYPE_CHECKING:
    SOURCES: dict[str, str]  # name of a cell -> its paper
else:

    def __getattr__(name: str) -> dict[str, str]:
        if name == "SOURCES":
            return {cell: entry["source"] for cell, entry in _entries().items()}
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def known_cells() -> dict[str, CellGenotype]:
    """All published cells, in the order of the file."""
    return dict(_genotypes())


def known_cell(name: str) -> CellGenotype:
    """The published cell of that name; case is ignored.

    :raises GenotypeError: unknown name; the message lists the nearest.
    """
    by_folded_name = {known.lower(): genotype for known, genotype in _genotypes().items()}
    if name.lower() not in by_folded_name:
        raise GenotypeError(unknown_name("cell", name, _genotypes()))
    return by_folded_name[name.lower()]


@cache
def _entries() -> dict[str, Any]:
    text = resources.files("search_spaces.darts").joinpath("known_cells.json").read_text(encoding="utf-8")
    cells: dict[str, Any] = json.loads(text)["cells"]
    return cells


@cache
def _genotypes() -> dict[str, CellGenotype]:
    return {name: parse(entry["genotype"]) for name, entry in _entries().items()}
