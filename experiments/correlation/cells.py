"""Which cells of a table are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.tabular.base import Entry, Table

MANY_CELLS = 300  # scored of a larger table, unless --cells gives another number
CHEAP_SECONDS = 0.05  # if every proxy takes less for a cell, all cells are scored
TIMED = 3  # cells on which each proxy is timed

#: The tables' names for an accuracy that was measured without an attack.
CLEAN = ("clean", "val_acc")


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells that are judged, in the table's order, and how they were chosen."""

    entries: tuple[Entry, ...]
    rule: str

    @property
    def keys(self) -> list[str]:
        """The canonical keys, each once: cells that build the same network share their scores."""
        return list(dict.fromkeys(entry.key for entry in self.entries))


def choose(table: Table, metric: str, n: int | None, seed: int) -> Cells:
    """All cells, or ``n`` of them: one drawn at random from each of n equal slices in order of accuracy."""
    total = len(table.entries)
    if n is None or n >= total:
        return Cells(entries=table.entries, rule=f"all {total:,} that the table holds")
    order = np.argsort(table.values(metric), kind="stable")
    rng = np.random.default_rng(seed)
    chosen = sorted(int(rng.choice(slice_)) for slice_ in np.array_split(order, n))
    return Cells(
        entries=tuple(table.entries[i] for i in chosen),
        rule=f"{n:,} of {total:,}, one from each of {n:,} equal slices by {metric}, drawn with seed {seed}",
    )


def spread(table: Table, metric: str) -> list[Entry]:
    """A few cells, spread over the range of the metric, on which the proxies are timed."""
    order = np.argsort(table.values(metric), kind="stable")
    return [table.entries[order[int((i + 0.5) / TIMED * len(order))]] for i in range(TIMED)]


def clean_metric(table: Table, metric: str) -> str | None:
    """The metric without an attack on the same data set; None if there is none besides ``metric``."""
    data = metric.split("/")[0]
    found = [f"{data}/{name}" for name in CLEAN if f"{data}/{name}" in table.metrics]
    return next((each for each in found if each != metric), None)


def accuracies(table: Table, metric: str, entries: Sequence[Entry]) -> np.ndarray:
    """The accuracies of ``entries``: ``(n,)``, percent."""
    column = table.column(metric)
    return np.array([entry.values[column] for entry in entries])
