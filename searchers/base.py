"""The contract of a searcher, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from search_spaces.base import SearchSpace

G = TypeVar("G")

Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[G]):
    """One candidate and what came of it.

    ``id`` counts from 0 in the order of proposal, ``key`` is the candidate's canonical key, ``seed`` what its weights
    were drawn from, ``seconds`` the time its scoring took (0.0 where an earlier trial of the same key was reused),
    ``error`` the reason of a failed or infeasible trial.
    """

    id: int
    key: str
    genotype: G
    seed: int
    status: Status
    scores: dict[str, float] = field(default_factory=dict)
    params: int = 0
    macs: int = 0
    seconds: float = 0.0
    error: str | None = None

    @classmethod
    def deferred(cls, find_genotype: Callable[[], G], **fields: Any) -> Trial[G]:
        """A trial that finds its genotype when somebody asks for it; all other fields are given."""
        trial = cls.__new__(cls)
        trial.__dict__.update(fields, _find_genotype=find_genotype)
        return trial

    def with_scores(self, scores: dict[str, float]) -> Trial[G]:
        """The same trial with other scores."""
        trial = type(self).__new__(type(self))
        trial.__dict__.update(self.__dict__, scores=scores)
        return trial

    def __getattr__(self, name: str) -> Any:
        if name != "genotype" or "_find_genotype" not in self.__dict__:
            raise AttributeError(f"a trial has no {name}")
        genotype = self.__dict__["genotype"] = self.__dict__.pop("_find_genotype")()
        return genotype


class NoFeasibleCandidate(ValueError):
    """No candidate met the constraints within the allowed number of draws."""


class Objectives(Protocol):
    """What is to be maximised: one column of values for each name."""

    @property
    def names(self) -> tuple[str, ...]:
        """The ``m`` objectives, at least one."""

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n, m)``, higher is better, for ``n`` trials of status ok; values may depend on all the trials given."""


MAX_DRAWS = 100_000


def check_whole(name: str, value: Any, least: int) -> None:
    """:raises ValueError: ``value`` is no whole number from ``least`` on."""
    if type(value) is not int:
        raise ValueError(f"{name} must be a whole number, got {value!r:.60}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


class Searcher(ABC, Generic[G]):
    """Suggests what to try next; never evaluates.

    What :meth:`ask` returns is a function of the seed and of the trials told so far, in order. A new searcher with the
    same seed, told the trials of an earlier one at once or one by one, continues as the earlier one would have.

    A searcher that learns more than it can work out again from the trials (the weights of a supernet, the state of a
    controller) keeps it in :meth:`state_dict`, in tensors and plain values. It is then resumed as follows. The state is
    stored after every step, that is after each :meth:`tell` of all trials that one :meth:`ask` proposed, together with
    the number of trials told until then. A new searcher with the same seed gets the last stored state by
    :meth:`restore`, before it is told anything. Then it is told the stored trials. For those that the state covers,
    ``id < restored``, :meth:`observe` only takes note of the trial: the state has learned from it already. Steps
    beyond, whose trials were stored but whose state was not, are asked for and told again, as they were the first time.
    So :meth:`ask` may change the state, too, and the history is the same wherever the process ended.

    :param feasible: whether a genotype meets the constraints; one that does not is drawn again.
    :param max_draws: how many draws a single proposal may take.
    :param options: the algorithm's own settings; None: their defaults.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """The algorithm's own settings; a subclass of :class:`Searcher` replaces this class by one with its fields.

        Each field has a default and, as ``metadata={"help": ...}``, a line that explains it: together they are the
        flags of the command line. ``__post_init__`` raises ValueError for what cannot be, and names fields as they are.
        """

    def __init__(
        self,
        space: SearchSpace[G],
        *,
        seed: int,
        objectives: Objectives,
        feasible: Callable[[G], bool] | None = None,
        max_draws: int = MAX_DRAWS,
        options: Options | None = None,
    ):
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        self.space = space
        self.seed = seed
        self.objectives = objectives
        self.feasible = feasible
        self.max_draws = max_draws
        self.options = self.Options() if options is None else options
        if type(self.options) is not self.Options:
            raise TypeError(f"options must be {self.Options.__qualname__}, got {type(options).__qualname__}")
        self.told = 0  # number of trials told, so the id of the next one
        self.restored = 0  # number of trials that the state given to restore() covers
        self.rejected = 0  # draws of this object that the constraints turned down

    @abstractmethod
    def ask(self, n: int) -> list[G]:
        """The next ``n`` candidates. Asked again without a tell in between, it returns the same."""

    def tell(self, trials: Iterable[Trial[G]]) -> None:
        """Trials in id order, without gaps, following those told before; of any status.

        :raises ValueError: at a trial out of order; those before it were told.
        """
        for trial in trials:
            if trial.id != self.told:
                raise ValueError(f"trials must be told in id order, expected trial {self.told}, got {trial.id}")
            self.told += 1
            self.observe(trial)

    @abstractmethod
    def observe(self, trial: Trial[G]) -> None:
        """Take in one trial, the last of the ``told`` ones."""

    def state_dict(self) -> dict[str, Any]:
        """What the searcher has learned beyond the trials told, as tensors and plain values.

        Empty (always, or never) for a searcher that is a function of its seed and the trials told.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` of an earlier searcher with the same seed and options returned.

        :raises ValueError: this is no state of such a searcher.
        """
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, got {', '.join(map(str, state))}")

    def restore(self, state: dict[str, Any], trials: int) -> None:
        """Begin with a stored state and the number of trials that it covers, which are told next."""
        if self.told:
            raise ValueError(f"a state must be restored before any trial is told, got it after {self.told}")
        self.load_state_dict(state)
        self.restored = trials

    def draw(self, propose: Callable[[], G]) -> G:
        """The first of ``propose()``'s candidates that meets the constraints.

        :raises NoFeasibleCandidate: after ``max_draws`` of them.
        """
        for _ in range(self.max_draws):
            genotype = propose()
            if self.feasible is None or self.feasible(genotype):
                return genotype
            self.rejected += 1
        raise NoFeasibleCandidate(f"no candidate met the constraints in {self.max_draws:,} draws")
