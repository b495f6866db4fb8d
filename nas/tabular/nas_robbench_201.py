"""NAS-RobBench-201 and NAS-Bench-201-R: robust accuracies of the cells of NAS-Bench-201.

NAS-RobBench-201 (Wu et al., ICLR 2024, https://arxiv.org/abs/2403.13134) trained the cells adversarially.
NAS-Bench-201-R is that paper's name for the data set of Jung et al. (ICLR 2023,
https://github.com/steffen-jung/robustness-dataset), whose networks were trained without adversarial examples. Their
accuracy under strong attacks is low for all cells, so it says nothing about the quality of a proxy for robustness.

Each file is a JavaScript assignment of a JSON value. ``ops.json`` has six digits for each cell id: the operations on
the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3. The file of accuracies has the names of the columns and, for each cell id,
either a row of fractions or the id of an isomorphic cell that was trained instead. "Isomorphic" has the meaning of the
benchmark's own code (:func:`search_spaces.nasbench201.equivalence.published_key`); rows and references are checked
against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.tabular.base import DECIMALS, Entry, Table
from nas.tabular.files import check_sum, find_folder, parse_json, read_bytes
from search_spaces.base import NetworkSpec
from search_spaces.nasbench201.equivalence import published_key, representative
from search_spaces.nasbench201.genotype import EDGES, OPERATIONS, EdgeGenotype, parse

SOURCE = "https://tt2408.github.io/nasrobbench201hp"
FOLDER = "nas_robbench_201"
OPS = "ops.json"
CELLS = len(OPERATIONS) ** len(EDGES)
CLASSES = 6466  # number of trained cells: one of each class of isomorphic cells in NAS-Bench-201
SPEC = NetworkSpec(channels=16, layers=15)  # five cells in each of three stages

#: SHA-256 of published files, by :func:`nas.tabular.files.sha256`. That of NAS-RobBench-201's accuracies is not known
#: here: of that file only the structure is checked.
PUBLISHED = {
    OPS: "1797c0b1bd00d1769f18de3edd74a942ceb627f8f72315b7aa8eff06a28c7a5d",
    "acc.json": "1c8b7dfe4ed375843db5cdad99aa24df99f5aa377780ccdcb259007ab6317ed2",
}

_ADVERSARIAL_COLUMNS = tuple(
    f"{data}#{metric}"
    for data in ("cifar10", "cifar100", "imagenet")
    for metric in ("val_acc", "val_fgsm_3_acc", "val_pgd_3_acc", "val_fgsm_8_acc", "val_pgd_8_acc", "autoattack")
)
_STANDARD_COLUMNS = tuple(
    f"{data}#{metric}"
    for data in ("cifar10", "cifar100", "ImageNet16-120")
    for metric in ("clean", "aa_apgd-ce", "aa_square", "fgsm", "pgd", "corr")
    if (data, metric) != ("ImageNet16-120", "corr")
)

Rows = dict[int, tuple[float, ...]]


@dataclass(frozen=True)
class _Published:
    name: str
    title: str
    file: str
    columns: tuple[str, ...]
    training: str


def load_adversarial(directory: Path) -> Table:
    """NAS-RobBench-201: for each of three data sets clean accuracy, FGSM and PGD at 3/255 and 8/255, and AutoAttack.

    :raises UserError: a file is missing, truncated or altered.
    """
    training = "adversarially trained (PGD-7, epsilon 8/255, 50 epochs)"
    title = "NAS-RobBench-201"
    return _load(
        _Published("nas_robbench_201", title, "NAS-RobBench-201_html.json", _ADVERSARIAL_COLUMNS, training), directory
    )


def load_standard(directory: Path) -> Table:
    """NAS-Bench-201-R; 17 metrics: clean, APGD-CE, Square, FGSM, PGD, and common corruptions (not for ImageNet16-120).

    The file does not state the epsilon of the attacks.

    :raises UserError: a file is missing, truncated or altered.
    """
    training = "trained without adversarial examples"
    return _load(_Published("nas_bench_201_r", "NAS-Bench-201-R", "acc.json", _STANDARD_COLUMNS, training), directory)


def _load(published: _Published, directory: Path) -> Table:
    names = tuple(dict.fromkeys((published.name, FOLDER)))
    folder = find_folder(directory, names, published.file, published.title, SOURCE)
    paths = folder / published.file, folder / OPS
    contents = [read_bytes(path, published.title, SOURCE) for path in paths]
    sums = {path.name: check_sum(path, content, PUBLISHED) for path, content in zip(paths, contents, strict=True)}
    rows, references = _read_accuracies(paths[0], _assigned(paths[0], contents[0], "acc"), published.columns)
    codes = _read_codes(paths[1], _assigned(paths[1], contents[1], "arch"))
    cells = {id: parse(codes[id]) for id in (*rows, *references)}
    _check_classes(paths[0], cells, references)
    keys = {id: str(representative(cell)) for id, cell in cells.items()}
    isomorphic: dict[str, tuple[str, ...]] = {}
    for id, target in sorted(references.items()):
        isomorphic[keys[id]] = tuple(dict.fromkeys((*isomorphic.get(keys[id], ()), str(target))))
    return Table(
        name=published.name,
        title=published.title,
        space="nasbench201",
        spec=SPEC,
        metrics=tuple(column.replace("#", "/") for column in published.columns),
        entries=tuple(Entry(str(id), str(cells[id]), keys[id], rows[id]) for id in sorted(rows)),
        whole=CLASSES,
        kind="classes of isomorphic cells",
        training=published.training,
        source=SOURCE,
        files=sums,
        aliases={str(id): str(target) for id, target in references.items()},
        isomorphic=isomorphic,
    )


def _assigned(path: Path, content: bytes, variable: str) -> Any:
    """The JSON value that the file assigns to ``variable``."""
    match = re.fullmatch(rf"\s*{variable}\s*=\s*(.*?)\s*;?\s*", content.decode("utf-8", "replace"), re.DOTALL)
    if match is None:
        raise UserError(f"{path} does not begin with {variable}=, got {content[:20]!r}")
    return parse_json(path, match[1])


def _read_codes(path: Path, value: Any) -> Sequence[str]:
    if not isinstance(value, list) or len(value) != CELLS:
        got = len(value) if isinstance(value, list) else type(value).__name__
        raise UserError(f"{path} must list {CELLS} cells, got {got}")
    for code in value:
        if not isinstance(code, str) or not re.fullmatch("[0-4]{6}", code):
            raise UserError(f"{path} holds the cell {code!r:.40}, expected six digits from 0 to {len(OPERATIONS) - 1}")
    if len(set(value)) < CELLS:
        raise UserError(f"{path} must list {CELLS} different cells, got {len(set(value))}")
    return value


def _read_accuracies(path: Path, value: Any, columns: tuple[str, ...]) -> tuple[Rows, dict[int, int]]:
    """Accuracies in percent by id of a trained cell; and by id of any other cell, the id of the one trained instead."""
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__}, expected rows by id")
    if value.get("") != list(columns):
        raise UserError(f"{path}: the columns are {value.get('')!r:.80}, expected {len(columns)} from {columns[0]}")
    rows: Rows = {}
    references: dict[int, int] = {}
    for name, row in value.items():
        if name == "":
            continue
        id = _id(path, name)
        if isinstance(row, list):
            rows[id] = _percent(path, id, row, len(columns))
        else:
            references[id] = _id(path, row)
    for id, target in references.items():
        if target in references:
            raise UserError(
                f"{path}: cell {id} refers to {target}, which has no row but refers to {references[target]}"
            )
        if target not in rows:
            raise UserError(f"{path}: cell {id} refers to {target}, which is not there")
    return rows, references


def _id(path: Path, name: Any) -> int:
    text = str(name) if type(name) in (str, int) else ""
    if not re.fullmatch("0|[1-9][0-9]{0,4}", text) or int(text) >= CELLS:
        raise UserError(f"{path}: id {name!r:.40}, expected a number from 0 to {CELLS - 1}")
    return int(text)


def _percent(path: Path, id: int, row: list[Any], columns: int) -> tuple[float, ...]:
    if len(row) != columns:
        raise UserError(f"{path}: cell {id} has {len(row)} values, expected {columns}")
    for value in row:
        if type(value) not in (float, int) or not 0 <= value <= 1:
            raise UserError(f"{path}: cell {id} has the accuracy {value!r:.40}, expected a fraction from 0 to 1")
    return tuple(round(100 * value, DECIMALS) for value in row)


def _check_classes(path: Path, cells: dict[int, EdgeGenotype], references: dict[int, int]) -> None:
    """:raises UserError: a reference joins cells that are not isomorphic, or two isomorphic cells have a row each."""
    texts = {id: published_key(cell) for id, cell in cells.items()}
    trained: dict[str, int] = {}
    for id, text in texts.items():
        if id not in references and trained.setdefault(text, id) != id:
            raise UserError(f"{path}: cells {trained[text]} and {id} have a row each, but are isomorphic")
    for id, target in references.items():
        if texts[id] != texts[target]:
            raise UserError(f"{path}: cell {id} ({cells[id]}) refers to {target} ({cells[target]}), no isomorphic cell")
