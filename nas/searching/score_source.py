"""What the scores of a search come from: proxies of untrained networks, or a table of measured accuracies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.executors.base import Executor
    from nas.executors.candidates import CandidateScorer
    from search_spaces.base import NetworkSpec, SearchSpace
    from searchers.base import Objectives
    from searchers.objectives import PopulationScore


class ScoreSource(ABC):
    """Made from the configuration alone; :meth:`prepare` then reads what scoring needs.

    ``names`` are the scores of a trial, ``objectives`` are made of them; ``relative`` are scores that the trials
    have among each other only. ``spec`` are the networks whose parameters and MACs are given; before :meth:`prepare`
    only its channels and layers hold. ``about`` is a line for the user, empty where there is nothing to add.
    """

    space: SearchSpace[Any]
    spec: NetworkSpec
    names: tuple[str, ...]
    objectives: Objectives
    relative: tuple[PopulationScore, ...] = ()
    device = "cpu"
    about = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """The scores that the user asked for."""
        return self.names

    @abstractmethod
    def prepare(self) -> None:
        """Read images or tables.

        :raises UserError: they are missing or damaged, or not what the configuration asks for.
        """

    def refusal(self, genotype: Any) -> str | None:
        """Why a genotype can have no score, so that it must not be proposed; None where it can have one."""
        return None

    @abstractmethod
    def scorer(self) -> CandidateScorer[Any]:
        """What scores candidates, after :meth:`prepare`."""

    @abstractmethod
    def executor(self) -> Executor:
        """Where the scorer runs."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the manifest says of the scores and of the data behind them, after :meth:`prepare`."""

    @abstractmethod
    def identity(self, manifest: dict[str, Any]) -> dict[str, str]:
        """By its name in words, what must be the same in a manifest when its run is resumed.

        :raises KeyError: or TypeError, where the manifest does not hold it.
        """
