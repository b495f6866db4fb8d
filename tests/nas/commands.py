"""The project's commands as a user meets them: in this process, or in one of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import nas.search
from nas.searching.searcher_options import all_options

ROOT = Path(__file__).resolve().parents[2]


def slip(
    capsys: pytest.CaptureFixture[str], *words: str, main: Callable[[Sequence[str]], int] = nas.search.main
) -> str:
    """The one line that the command answers with."""
    capsys.readouterr()
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    return err


def process(*words: str, start: tuple[str, ...] = ("-m", "nas.search"), **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own, which Ctrl-C reaches also where the tests run as a background job."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}  # not what a test has set
    environment = {**own, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, *start, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        **options,
    )  # fmt: skip


#: that make a searcher with a supernet fast
SMALL_SUPERNET: dict[str, dict[str, Any]] = {
    "darts": {"epochs": 2, "search_images": 24, "batch_size": 12},
    "zero_shot_gradient": {"steps": 2, "supernet_images": 2},
    "zero_cost_pruning": {"supernet_images": 2},
}


def small_options(searcher: str, **options: Any) -> dict[str, Any]:
    """Those of the options that the searcher has, and what makes it fast if it has a supernet."""
    own = {name: value for name, value in options.items() if searcher in all_options().get(name, ())}
    return {**own, **SMALL_SUPERNET.get(searcher, {})}


def timeless(path: Path) -> list[dict[str, Any]]:
    """The trials in a run directory, without what differs from run to run."""
    trials = [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]
    return [{**trial, "seconds": 0} for trial in sorted(trials, key=lambda trial: trial["id"])]


def lines_in(path: Path) -> int:
    """Complete lines; 0 where there is no file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0
