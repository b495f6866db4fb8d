"""``scores.jsonl``: a line for every network and seed, appended as soon as it is scored. JSON only."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from experiments.correlation.scoring import Record
from nas.errors import UserError

NAME = "scores.jsonl"


class ScoreLog:
    """The file in a directory that this process alone writes to."""

    def __init__(self, directory: Path):
        self.path = directory / NAME

    def append(self, record: Record) -> None:
        """Add one record; it survives the end of this process at any later moment."""
        line = json.dumps(dataclasses.asdict(record)) + "\n"
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def read(self) -> list[Record]:
        """All records. A last line that the end of a process tore is removed from the file.

        :raises UserError: any other line that is no record, by its number.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror or error}") from None
        whole = content.rfind(b"\n") + 1
        records = [self._parse(line, number) for number, line in enumerate(content[:whole].splitlines(), start=1)]
        if whole < len(content):
            os.truncate(self.path, whole)
        return records

    def _parse(self, line: bytes, number: int) -> Record:
        try:
            return _record(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{self.path} line {number} is no record of scores: {reason}") from None


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
