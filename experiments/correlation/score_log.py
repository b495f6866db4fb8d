"""``scores.jsonl``: a line for every network and seed, appended as soon as it is scored. JSON only."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.correlation.scoring import Record
from nas.runs.json_lines import JsonLines
from nas.runs.schema import FINITE, POSITIVE, TEXT, WHOLE, by_name, fields

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


_RECORD = fields(
    {
        "key": TEXT, "seed": WHOLE, "scores": by_name(FINITE), "errors": by_name(TEXT), "seconds": by_name(POSITIVE),
    }
)  # fmt: skip


def _record(value: Any) -> Record:
    _RECORD(value, "")
    return Record(**{field.name: value[field.name] for field in dataclasses.fields(Record)})
