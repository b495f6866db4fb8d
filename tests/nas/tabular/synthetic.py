"""Tables in the published formats, written by the tests themselves."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from nas.tabular import nas_robbench_201
from search_spaces import get_space
from search_spaces.nasbench201.equivalence import published_key
from search_spaces.nasbench201.genotype import parse

CODES = ["".join(digits) for digits in itertools.product("01234", repeat=6)]
COLUMNS = list(nas_robbench_201._ADVERSARIAL_COLUMNS)


def row(code: str) -> list[float]:
    """More and larger convolutions are better; what ties is settled by the digits."""
    worth = sum({"3": 10, "2": 5, "1": 2}.get(digit, 0) for digit in code)
    return [round(0.1 + worth / 200 + int(code, 5) / 1e6 + column / 1e4, 6) for column in range(len(COLUMNS))]


def accuracies(codes: list[str]) -> dict[str, Any]:
    """A row for the first cell of each class, a reference for the others; an id is the place in ``CODES``."""
    first: dict[str, str] = {}
    acc: dict[str, Any] = {"": COLUMNS}
    for code in codes:
        trained = first.setdefault(published_key(parse(code)), code)
        acc[str(int(code, 5))] = row(code) if trained == code else str(int(trained, 5))
    return acc


def write_tables(folder: Path, acc: Any, ops: Any = CODES, file: str = "NAS-RobBench-201_html.json") -> Path:
    """Both as published: assignments of JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(f"acc={json.dumps(acc)}")
    (folder / "ops.json").write_text(f"arch={json.dumps(ops)}")
    return folder


def record(number: int, **changes: Any) -> dict[str, Any]:
    """A record of Tiny-RobustBench of the seed ``number``, of a random cell."""
    parts = get_space("darts").sample(np.random.default_rng(number)).to_json()
    genotype = {name: parts[name] for name in ("normal", "normal_concat", "reduce")}
    return {
        "seed": number,
        "net": {"aux": False, "depth": 8, "width": 16, "genotype": {**genotype, "reduce_concate": [2, 3, 4, 5]}},
        "max_test_top1_original": 70.0 + number,
        "max_test_top1_adv": 40.0 + number,
        "test_ep_top1_original": [10, 70.0 + number],
        "test_ep_top1_adv": [0, 40.0 + number, 30],
        **changes,
    }
