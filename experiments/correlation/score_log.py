"""``scores.jsonl``: a line for every network and seed, appended as soon as it is scored. JSON only."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from experiments.correlation.scoring import Record
from nas.runs.json_lines import JsonLines

NAME = "scores.jsonl"


class ScoreLog:
    """The score file of a directory. No other process may write to the directory."""

    def __init__(self, directory: Path):
        self._lines = JsonLines(directory / NAME, "no record of scores", "key")

    def __enter__(self) -> ScoreLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.close()

    def append(self, record: Record) -> None:
        """Append one record; it is kept even if this process is killed afterwards."""
        self._lines.append(dataclasses.asdict(record))

    def read(self) -> list[Record]:
        """All records. An incomplete last line, left by a process that was killed, is skipped.

        :raises UserError: another line is not a record; the message gives its number.
        """
        return [record for _, record in self._lines.read(_record)]


def _record(value: Any) -> Record:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {value!r:.40}")
    if type(value["key"]) is not str or type(value["seed"]) is not int:
        raise ValueError(f"key and seed {value['key']!r:.40}, {value['seed']!r:.40}, expected a text and a number")
    for name in ("scores", "seconds"):
        for proxy, number in value[name].items():
            if type(number) not in (float, int) or not math.isfinite(number):
                raise ValueError(f"{name} of {proxy}: {number!r:.40}, expected a finite number")
    errors = {str(proxy): str(error) for proxy, error in value["errors"].items()}
    return Record(key=value["key"], seed=value["seed"], scores=value["scores"], errors=errors, seconds=value["seconds"])
