"""``architecture.jsonl``: one line for each step of a searcher with a supernet, and the same as TensorBoard events.

A line holds the derived cell, the architecture weights and what is known of them; what it is made from is said in
:class:`searchers.supernet.SupernetSearcher`. The records are part of the searcher's state, so that a resumed search
leaves the lines that an uninterrupted one leaves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.files import make_folder, write
from nas.runs.json_lines import JsonLines
from nas.runs.schema import COUNT, FINITE, POSITIVE, SWITCH, TEXT, WHOLE, by_name, each, fields

if TYPE_CHECKING:
    from nas.training.events import Events

#: a step's record, as plain values
Step = dict[str, Any]

ARCHITECTURE = "architecture.jsonl"
EVENTS = "architecture"  # the folder of the events
_KNOWN = {
    "step": COUNT,
    "cell": TEXT,
    "skip_connections": WHOLE,
    "edges": COUNT,
    "collapsed": SWITCH,
    "entropy": POSITIVE,
    "weights": by_name(each(each(FINITE))),
}
_STEP = fields(_KNOWN)
UNDECIDED = 0.97  # share of the greatest entropy above which the weights say little about the operations


class ArchitectureLog:
    """Writes the steps of a search into its run directory."""

    def __init__(self, run: Path):
        self._run = run
        self._lines = _lines(run)
        self._events: Events | None = None
        self._done = 0

    def resume(self, records: Sequence[Step]) -> None:
        """Go on after these records. The file is replaced when the next one is added.

        :raises UserError: the file cannot be read, or holds something else.
        """
        read_steps(self._run)
        self._done = len(records)

    def add(self, records: Sequence[Step]) -> None:
        """Write those of all ``records`` of the search that have not been written.

        :raises Unwritable: the operating system refused.
        """
        if self._events is None:
            from nas.training.events import Events

            write(self._lines.path, "".join(json.dumps(record) + "\n" for record in records[: self._done]))
            make_folder(self._run / EVENTS)
            self._events = Events(self._run / EVENTS, self._done, step="step")
        for record in records[self._done :]:
            self._lines.append(record)
            figures = {name: value for name, value in record.items() if name not in _KNOWN}
            named = {name: record[name] for name in ("step", "entropy", "skip_connections")}
            self._events.add({**named, **figures}, distributions=record["weights"])
        self._done = len(records)

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        if self._events is not None:
            self._events.close()


def _lines(run: Path) -> JsonLines:
    return JsonLines(run / ARCHITECTURE, "no step", "step")


def read_steps(run: Path) -> list[Step]:
    """The steps of the run in order; none if its searcher has no supernet.

    :raises UserError: the file cannot be read, or a line is not a step.
    """

    def parse(value: Any) -> Step:
        _STEP(value, "")
        step: Step = value
        return step

    return [step for _, step in _lines(run).read(parse)]


def cautions(steps: Sequence[Step]) -> list[str]:
    """A line each if the last step's cell has collapsed into skip connections, and if its weights have hardly moved."""
    if not steps:
        return []
    last, lines = steps[-1], []
    if last["collapsed"]:
        lines.append(
            f"collapsed: {last['skip_connections']} of {last['edges']} edges of the cell derived after step"
            f" {last['step']} are skip connections"
        )
    rows = [row for cell in last["weights"].values() for row in cell]
    most = sum(math.log(max(sum(weight > 0 for weight in row), 1)) for row in rows) / max(len(rows), 1)
    if last["entropy"] > UNDECIDED * most > 0:
        lines.append(
            f"undecided: the mean entropy of the weights is {last['entropy']:.3f} of at most {most:.3f} nats after step"
            f" {last['step']}: the derived cell is little more than a draw; more steps or a larger"
            " --architecture-learning-rate decide"
        )
    return lines
