"""``comparison.json``: how the winner of a search stands among random and published cells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.runs.directory import COMPARISON, FORMAT, checked, read_json, write_json
from nas.runs.schema import FINITE, SWITCH, TEXT, WHOLE, by_name, each, fields

RANDOM = 100  # random cells, if there are so many

_CONTENT = fields(
    {
        "objective": TEXT, "first_of_several": SWITCH, "winner": FINITE, "random": each(FINITE), "beaten": WHOLE,
        "draws": WHOLE, "published": by_name(FINITE), "better": each(TEXT),
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The values of the winner, of random cells of its size and of published cells, and who is better.

    ``objective`` names the values; ``first_of_several`` is True if the search had others besides. ``beaten`` is the
    number of random cells that the winner is better than, where an equal one is not beaten. ``draws`` is the number of
    cells drawn to find those of its size. ``better`` are the names of the published cells that are better than it.
    """

    objective: str
    first_of_several: bool
    winner: float
    random: tuple[float, ...]
    beaten: int
    draws: int
    published: dict[str, float]
    better: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of Clopper and Pearson (1934) for the share of beaten cells, in percent.

        :raises ValueError: no random cell was scored.
        """
        from scipy.stats import binomtest

        found = binomtest(self.beaten, len(self.random)).proportion_ci(method="exact")
        return 100 * float(found.low), 100 * float(found.high)

    @property
    def sentences(self) -> list[str]:
        """What was found, in a sentence each about random cells and published ones."""
        by = f"{self.objective}{', the first objective' if self.first_of_several else ''}"
        count = len(self.random)
        place = "no random cell of its size has a score"
        if count:
            low, high = self.interval
            place = f"better than {self.beaten} of {count} random cells of its size by {by}"
            place += f" (95 %: {low:.0f}..{high:.0f})"
        found = [f"{place}; {self.draws:,} were drawn" if count < RANDOM else place]
        if self.published:
            ahead = f", after {', '.join(self.better)}" if self.better else ""
            place = f"place {len(self.better) + 1} of {len(self.published) + 1} with the published cells"
            found.append(f"{place}, which are of other sizes{ahead}")
        return found


def write_comparison(run: Path, comparison: Comparison) -> None:
    """Replace the file in the directory ``run`` atomically."""
    write_json(run / COMPARISON[0], {"format": FORMAT, **dataclasses.asdict(comparison)})


def read_comparison(run: Path) -> Comparison | None:
    """The comparison of the search in ``run``; None if there is none.

    :raises UserError: the file cannot be read.
    """
    value: dict[str, Any] | None = read_json(run / COMPARISON[0])
    if value is None:
        return None
    checked(run / COMPARISON[0], _CONTENT, value)
    found = {field.name: value[field.name] for field in dataclasses.fields(Comparison)}
    comparison = Comparison(**{**found, "random": tuple(found["random"]), "better": tuple(found["better"])})
    if comparison.beaten > len(comparison.random):
        raise UserError(f"{run / COMPARISON[0]} is damaged: more cells are beaten than were scored")
    return comparison
