"""Small searches."""

from __future__ import annotations

import shlex
from pathlib import Path

TINY = shlex.split("--channels 2 --layers 2 --ntk-images 10 --curvature-images 2 --budget 6")


COUNT = [*TINY, "--proxy", "params", "--searcher", "random", "--no-report", "--quiet"]


def copy_of(run: Path, to: Path) -> Path:
    to.mkdir()
    for name in ("manifest.json", "trials.jsonl"):
        (to / name).write_bytes((run / name).read_bytes())
    return to
