"""Runs to report on, and what every page must be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from nas.report import write_report
from search_spaces.cells.genotype import Cell, CellGenotype
from search_spaces.cells.notation import format_compact

OPERATIONS = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3")


#: Cells as they were published: DARTS (second order), CRoZe (14 edges, a node twice in concat), NASNet-A (5 nodes, one
#: of them with the same edge twice), AmoebaNet-A (nodes that the output leaves out), LRNAS (none on edges).
PUBLISHED = {
    "DARTS_V2": "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),"
    " ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5],"
    " reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0),"
    " ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])",
    "CROZE": "Genotype(normal=[('avg_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_5x5', 0), ('dil_conv_3x3', 1),"
    " ('max_pool_3x3', 2), ('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('skip_connect', 2), ('dil_conv_3x3', 3),"
    " ('sep_conv_5x5', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 2), ('skip_connect', 3), ('sep_conv_7x7', 4)],"
    " normal_concat=[4, 5, 3, 4], reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('conv_7x1_1x7', 0),"
    " ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('conv_7x1_1x7', 0), ('sep_conv_7x7', 1), ('dil_conv_3x3', 2),"
    " ('dil_conv_3x3', 3), ('dil_conv_3x3', 0), ('sep_conv_7x7', 1), ('conv_7x1_1x7', 2), ('dil_conv_3x3', 3),"
    " ('sep_conv_3x3', 4)], reduce_concat=[3, 2, 5, 5])",
    "NASNet": "Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),"
    " ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1),"
    " ('skip_connect', 1)], normal_concat=[2, 3, 4, 5, 6], reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0),"
    " ('max_pool_3x3', 1), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3),"
    " ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1)], reduce_concat=[4, 5, 6])",
    "AmoebaNet": "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),"
    " ('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0),"
    " ('avg_pool_3x3', 1)], normal_concat=[4, 5, 6], reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1),"
    " ('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0),"
    " ('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], reduce_concat=[3, 4, 6])",
    "LRNAS": "Genotype(normal=[('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0),"
    " ('sep_conv_3x3', 2), ('avg_pool_3x3', 1), ('max_pool_3x3', 3), ('max_pool_3x3', 0)], normal_concat=[2, 3, 4, 5],"
    " reduce=[('none', 0), ('none', 1), ('sep_conv_5x5', 2), ('max_pool_3x3', 0), ('avg_pool_3x3', 2),"
    " ('skip_connect', 1), ('max_pool_3x3', 3), ('skip_connect', 4)], reduce_concat=[2, 3, 4, 5])",
}


TIMES = "\N{MULTIPLICATION SIGN}"


NASBENCH201 = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"


MANIFEST: dict[str, Any] = {
    "format": 1,
    "command": "search",
    "status": "finished",
    "configuration": {
        "space": "darts", "searcher": "random", "proxy": ["robust"], "budget": 30, "seed": 7, "dataset": "digits",
        "channels": 16, "ntk_images": 50, "curvature_images": 8, "max_params": None, "download": False,
        "require": ["normal.skip_connect == 2"],
    },
    "proxies": [{"name": "robust", "direction": "maximize"}],
    "versions": {"torch": "2.9"},
    "hardware": {"processor": "a processor", "device": "cpu"},
    "data": {"name": "digits", "fingerprint": "abc", "classes": 10, "image_size": [32, 32], "images": 1797},
    "git_commit": None,
    "started": "2025-01-01T00:00:00+00:00",
    "ended": "2025-01-01T00:20:34+00:00",
    "seconds": 1234.5,
    "summary": {"trials": 30, "ok": 30, "failed": 0, "infeasible": 0, "reused": 0, "rejected": 0},
}  # fmt: skip


def random_cell(rng: np.random.Generator, nodes: int = 4, edges: int = 2) -> Cell:
    built = []
    for number in range(2, 2 + nodes):
        sources = sorted(int(each) for each in rng.integers(number, size=edges))
        built.append(tuple((str(rng.choice(OPERATIONS)), source) for source in sources))
    return Cell(tuple(built), tuple(range(2, 2 + nodes)))


def trials_of(count: int, proxies: Iterable[str] = ("robust",), **changes: Any) -> list[dict[str, Any]]:
    """Trials with random cells; score and size rise with the id, up to noise."""
    rng = np.random.default_rng(0)
    trials = []
    for id in range(count):
        genotype = CellGenotype(random_cell(rng), random_cell(rng))
        params = 100_000 + 1_000 * id + int(rng.integers(20_000))
        scores = {name: id / 10 + float(rng.normal()) for name in proxies}
        trial = {
            "id": id, "key": format_compact(genotype), "genotype": str(genotype), "seed": id, "status": "ok",
            "scores": scores, "params": params, "macs": 100 * params, "seconds": 2.0, "error": None,
        }  # fmt: skip
        trials.append({**trial, **changes})
    return trials


def write_run(path: Path, trials: list[dict[str, Any]], best: dict[str, Any] | None = None, **manifest: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_text(json.dumps({**MANIFEST, **manifest}))
    (path / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    if best is not None:
        (path / "best.json").write_text(json.dumps(best))
    return path


def page_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Parses strictly: every element that is opened is closed in order. Keeps the tags and the visible text."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check_page(html: str) -> Page:
    """The page parses, its ids are unique and its own references meet one, and nothing outside it is needed."""
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name) or ""
            if value.startswith("#"):
                assert value[1:] in ids
            elif not value.startswith("data:"):
                assert tag == "a" or not value, f"<{tag} {name}={value}>"
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    assert all(reference in ids for reference in re.findall(r"url\(#([^)]*)\)", html))
    return page
