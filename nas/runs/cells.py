"""Cells that are given as a run directory or a file, the best cell of a run, and cells that a search starts with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.files import as_path, kind, read_text
from nas.runs.directory import BEST, FRONT, check_best, checked, holds_run, read_best, read_json, read_manifest
from nas.runs.schema import TEXT, each, fields
from search_spaces import SPACES, get_space
from search_spaces.base import SearchSpace
from search_spaces.cells.literal import MOST_CHARACTERS

_FILE_NAME = re.compile(r"[\w.~-]*/[\w./~-]*|[\w.-]+\.json")  # not of a genotype in any notation


def start_cells(given: Iterable[str], space: SearchSpace[Any]) -> tuple[str, ...]:
    """The genotypes that ``--start`` names, each once, as texts in the notation of ``space``.

    :param given: of each, a genotype in any notation or by name, a file that holds one, or the directory of a finished
        search: it stands for the cells of its front, or for its best cell if it has no front.
    :raises UserError: one of them is no cell of the space; or the run is not finished, or of another space.
    """
    given = list(given)
    if not all(isinstance(cell, str) for cell in given):
        raise UserError(f"--start must be a text or a list of texts, got {given!r:.60}")
    found = (text for cell in given for text in _start_cell(cell, space))
    return tuple(dict.fromkeys(found))


def _start_cell(cell: str, space: SearchSpace[Any]) -> list[str]:
    try:
        return [space.format(space.parse(cell))]
    except ValueError:
        pass
    genotype, _ = read_cell(cell, space.name, "--start")
    front = [] if genotype == cell else _front(as_path("start", cell))  # what is no path stands for itself
    try:
        return [space.format(space.parse(text)) for text in front or [genotype]]
    except ValueError as error:
        raise UserError(" ".join(f"--start {cell:.60}: {error}".split())) from None


def _front(run: Path) -> list[str]:
    """The genotypes of the front of the search in ``run``; none if it has no front, or is no directory."""
    value = read_json(run / FRONT) if kind(run) == "folder" else None
    if value is None:
        return []
    checked(run / FRONT, fields({"front": each(fields({"genotype": TEXT}))}), value)
    return [member["genotype"] for member in value["front"]]


def read_cell(cell: str, space: str | None, option: str = "--cell") -> tuple[str, str | None]:
    """The genotype and its search space that ``--cell`` and ``--space`` give.

    :param cell: a genotype in any notation or by name, the directory of a finished search, its ``best.json``, or
        another file that holds a genotype. What the space can read is no path, whatever files there are.
    :param space: where None, it is the run's, or that of ``best.json`` in the directory of its run, or not known.
    :param option: the option that gives the cell, for messages.
    :raises UserError: the run is not finished or of another space, or the file cannot be read.
    """
    own = space is not None and space not in SPACES  # a space of the user's, whose notation is not known here
    if not own and _reads(space or "darts", cell):
        return cell, space
    try:
        path = as_path("cell", cell)
        found = kind(path)
    except UserError:  # no path: too long a name, for instance
        return cell, space
    if found == "folder":
        of, genotype = best_cell(path)
        if of in SPACES:
            check_best(path, get_space(of))
    elif found is None and (own or not _FILE_NAME.fullmatch(cell)):
        return cell, space
    else:
        genotype = _in_file(path, option)
        of = best_cell(path.parent)[0] if path.name == BEST and holds_run(path.parent) else space or ""
    if of and space not in (None, of):
        raise UserError(f"--space must be {of}, the space of {option} {cell}, got {space}")
    return genotype, of or None


def _reads(space: str, text: str) -> bool:
    try:
        get_space(space).parse(text)
    except ValueError:
        return False
    return True


def _in_file(path: Path, option: str) -> str:
    """The text of the genotype in a file: ``best.json``, or any other that holds a genotype in some notation."""
    text = read_text(path, MOST_CHARACTERS)
    if text is None:
        raise UserError(f"{option} {path}: there is no such file or directory, and no cell of that name")
    if path.suffix != ".json":
        return text.strip()
    value = read_json(path) or {}
    return value["genotype"] if isinstance(value.get("genotype"), str) else json.dumps(value)


def best_cell(run: Path) -> tuple[str, str]:
    """Search space and genotype of the best cell that the search in ``run`` found.

    :raises UserError: the search is not finished, or its best cell cannot be read.
    """
    space, best = read_manifest(run)["configuration"].get("space"), read_best(run)
    if best is None:
        raise UserError(f"{run} holds no {BEST}: the search in it is not finished; --resume goes on with it")
    if not best.genotype or not isinstance(space, str):
        raise UserError(f"{run / BEST} is not the best cell of a search: it holds no genotype")
    return space, best.genotype
