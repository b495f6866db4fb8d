"""What the scores of a search come from: proxies of untrained networks, or a table of measured accuracies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nas.errors import UserError

if TYPE_CHECKING:
    from nas.executors.base import Executor
    from nas.executors.candidates import CandidateScorer
    from search_spaces.base import NetworkSpec, SearchSpace
    from searchers.base import Objectives
    from searchers.objectives import Direction, PopulationScore
    from searchers.supernet import Material


class ScoreSource(ABC):
    """Where the scores of candidates come from. No data is read until :meth:`prepare` is called.

    ``names`` are the scores of a trial, and ``objectives`` are computed from them. ``directions`` are the objectives
    that the user has named, with their directions; empty if there are none. ``units`` are those of scores that have
    one beside their name. ``relative`` are scores that compare
    the trials of a run with each other. ``spec`` is the size of the networks whose parameters and MACs are counted;
    before :meth:`prepare` only its channels and layers are valid. ``about`` is one line of further information for the
    user, or empty.
    """

    space: SearchSpace[Any]
    spec: NetworkSpec
    names: tuple[str, ...]
    objectives: Objectives
    directions: Mapping[str, Direction] = MappingProxyType({})
    units: Mapping[str, str] = MappingProxyType({})
    relative: tuple[PopulationScore, ...] = ()
    device = "cpu"
    about = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """The scores that the user asked for."""
        return self.names

    @abstractmethod
    def prepare(self) -> None:
        """Read the images or the table.

        :raises UserError: the files are missing or damaged, or are not what the configuration asks for.
        """

    def refusal(self, genotype: Any) -> str | None:
        """The reason why a genotype has no score and must not be proposed; None if it has one."""
        return None

    def held(self) -> Sequence[str] | None:
        """The canonical keys of all cells that have a score; None where every cell of the space has one."""
        return None

    @abstractmethod
    def scorer(self) -> CandidateScorer[Any]:
        """The object that scores candidates; available after :meth:`prepare`."""

    def material(self) -> Material:
        """What a searcher with a supernet computes with; available after :meth:`prepare`.

        :raises UserError: there are no networks and images.
        """
        raise UserError("a searcher with a supernet needs networks and images, got none")

    @abstractmethod
    def executor(self) -> Executor:
        """The executor that runs the scorer."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The manifest's entries about the scores and the data they are computed from; after :meth:`prepare`."""

    def named_objectives(self) -> dict[str, Any]:
        """The manifest's entry about the objectives that the user has named; empty if there are none."""
        entries = [
            {"name": name, "direction": direction, **({"unit": self.units[name]} if name in self.units else {})}
            for name, direction in self.directions.items()
        ]
        return {"objectives": entries} if entries else {}

    @abstractmethod
    def identity(self, manifest: dict[str, Any]) -> dict[str, str]:
        """The values in ``manifest`` that must not change when the run is resumed, by the name used in messages.

        :raises KeyError: or TypeError, if the manifest does not contain them.
        """
