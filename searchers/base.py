"""The contract of a searcher, and the trials and objectives that it works with."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np

from search_spaces.base import NetworkSpec, SearchSpace, whole_number

G = TypeVar("G")

Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[G]):
    """One candidate and its result.

    ``id`` counts from 0 in the order of proposal. ``key`` is the candidate's canonical key, ``seed`` the seed of its
    weights. ``seconds`` is the time that its scoring took, or 0.0 if the result of an earlier trial with the same key
    was reused. ``error`` says why a trial failed or is infeasible. ``violation`` is above 0 for an infeasible trial
    that was measured: by which share it exceeds the limit. ``fidelity`` is the share of the full effort with which it
    was scored (see :meth:`Searcher.fidelities`), while ``params`` and ``macs`` are those of the full network.
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
    violation: float = 0.0
    fidelity: float = 1.0

    @property
    def ranked(self) -> bool:
        """Whether the trial may be ranked: it has scores, and they are those of the full size."""
        return self.status == "ok" and self.fidelity == 1.0

    @classmethod
    def deferred(cls, find_genotype: Callable[[], G], **fields: Any) -> Trial[G]:
        """A trial that calls ``find_genotype`` when its genotype is first accessed; ``fields`` are all other fields."""
        trial = cls.__new__(cls)
        trial.__dict__.update(fields, _find_genotype=find_genotype)
        return trial

    def with_scores(self, scores: dict[str, float]) -> Trial[G]:
        """A copy of the trial with other scores."""
        trial = type(self).__new__(type(self))
        trial.__dict__.update(self.__dict__, scores=scores)
        return trial

    def __getattr__(self, name: str) -> Any:
        if name != "genotype" or "_find_genotype" not in self.__dict__:
            raise AttributeError(f"a trial has no {name}")
        genotype = self.__dict__["genotype"] = self.__dict__.pop("_find_genotype")()
        return genotype


class NoFeasibleCandidate(ValueError):
    """No candidate within the allowed number of draws met the constraints."""


class SearcherStopped(ArithmeticError):
    """A searcher cannot go on, for instance because its training has diverged."""


class Objectives(Protocol):
    """The objectives to be maximised: for each name, one column of values."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the ``m`` objectives; there is at least one."""

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """Values ``(n, m)``, higher is better, for ``n`` trials of status ok. Values may depend on all the trials."""


MAX_DRAWS = 100_000


def check_whole(name: str, value: Any, least: int, most: int = 10**9) -> None:
    """:raises ValueError: ``value`` is not a whole number from ``least`` to ``most``."""
    whole_number(name, value, least, most)


def check_number(name: str, value: Any, least: float = 0.0, most: float = math.inf) -> None:
    """:raises ValueError: ``value`` is not a finite number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r:.60}")
    if not least <= value <= most:
        bound = f"at least {least:g}" if value < least else f"at most {most:g}"
        raise ValueError(f"{name} must be {bound}, got {value!r:.60}")


class Searcher(ABC, Generic[G]):
    """Proposes candidates (:meth:`ask`) and is told their trials (:meth:`tell`); it never evaluates a candidate.

    What :meth:`ask` returns is a function of the seed and of the trials told so far, in order. A new searcher with the
    same seed that is told the trials of an earlier one, all at once or one by one, continues as the earlier one would.

    A searcher may learn something that it cannot compute again from the trials, such as the weights of a supernet. It
    returns this state from :meth:`state_dict`, as tensors and plain values. The state is stored after every step, that
    is, after each :meth:`tell` of all trials that one :meth:`ask` proposed, with the number of trials told until then.
    A search with such a searcher is resumed as follows:

    1. A new searcher with the same seed gets the last stored state by :meth:`restore`, before it is told any trial.
    2. It is told the stored trials that the state covers, ``id < restored``. For these, :meth:`observe` must not learn
       from the trial again; it only records it.
    3. Later steps, whose trials were stored but not the state, are asked for and told again, as in the first run.

    So :meth:`ask` may change the state, too, and the history is the same wherever the process ended.

    :cvar step: candidates asked for at a time, unless the user says otherwise.
    :cvar needs_material: whether the constructor takes ``material``, a function that returns the
        :class:`~searchers.supernet.Material` that the searcher computes with. It is called by the first :meth:`ask`.
    :cvar multi_fidelity: whether :meth:`fidelities` returns other values than 1.0, which needs networks.
    :cvar takes_start: whether the searcher proposes the genotypes ``start`` first; others refuse them.
    :param feasible: whether a genotype meets the constraints; if it does not, another one is drawn.
    :param max_draws: the maximum number of draws for a single proposal.
    :param options: the algorithm's own settings; None means their defaults.
    :param start: genotypes to begin with.
    """

    step: ClassVar[int] = 10
    needs_material: ClassVar[bool] = False
    multi_fidelity: ClassVar[bool] = False
    takes_start: ClassVar[bool] = False

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """The algorithm's own settings. A subclass of :class:`Searcher` defines its own ``Options`` with its fields.

        Each field has a default and a help text, ``metadata={"help": ...}``; the command line makes a flag of it.
        ``__post_init__`` raises ValueError for an invalid value, and its message uses the name of the field.
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
        start: Sequence[G] = (),
    ):
        if start and not self.takes_start:
            raise ValueError(f"{type(self).__name__} takes no genotypes to start with, got {len(start)}")
        self.space = space
        self.start = tuple(start)
        self.seed = whole_number("seed", seed, 0)
        self.objectives = objectives
        self.feasible = feasible
        self.max_draws = whole_number("max_draws", max_draws)
        self.options = self.Options() if options is None else options
        if type(self.options) is not self.Options:
            raise TypeError(f"options must be {self.Options.__qualname__}, got {type(options).__qualname__}")
        self.budget: int | None = None  # candidates of the whole search; None if it is not known
        self.told = 0  # number of trials told; also the id of the next one
        self.restored = 0  # number of trials that the state given to restore() covers
        self.rejected = 0  # draws of this object that violated the constraints

    def check_size(self, spec: NetworkSpec) -> None:
        """Before anything is read: check that the options fit networks of this size.

        :raises ValueError: they do not.
        """
        return

    @abstractmethod
    def ask(self, n: int) -> list[G]:
        """The next ``n`` candidates. Further calls without a :meth:`tell` in between return the same candidates."""

    def fidelities(self, n: int) -> list[float]:
        """The fidelity, in (0, 1], of each of the ``n`` candidates that :meth:`ask` returns.

        It is the share of the full effort that scoring the candidate may take; 1.0 is the full size.
        """
        return [1.0] * n

    def tell(self, trials: Iterable[Trial[G]]) -> None:
        """Take in finished trials of any status. They must be in id order, and continue the earlier ones without gaps.

        :raises ValueError: a trial is out of order; the trials before it have been taken in.
        """
        for trial in trials:
            if trial.id != self.told:
                raise ValueError(f"trials must be told in id order, expected trial {self.told}, got {trial.id}")
            self.told += 1
            self.observe(trial)

    @abstractmethod
    def observe(self, trial: Trial[G]) -> None:
        """Take in one trial; ``told`` already counts it."""

    def state_dict(self) -> dict[str, Any]:
        """What the searcher has learned beyond the trials told, as tensors and plain values.

        Always empty for a searcher that is a function of its seed and the trials told, and never empty for others.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state that :meth:`state_dict` of a searcher with the same seed and options returned.

        :raises ValueError: ``state`` is not the state of such a searcher.
        """
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, got {', '.join(map(str, state))}")

    def restore(self, state: dict[str, Any], trials: int) -> None:
        """Load a stored state before any trial is told.

        :param trials: the number of trials that the state covers; these must be told next.
        :raises ValueError: trials were told before, or ``state`` is not a state of this searcher.
        """
        if self.told:
            raise ValueError(f"a state must be restored before any trial is told, got it after {self.told}")
        self.load_state_dict(state)
        self.restored = trials

    def draw(self, propose: Callable[[], G]) -> G:
        """Call ``propose()`` until its candidate meets the constraints, and return that candidate.

        :raises NoFeasibleCandidate: none of ``max_draws`` candidates did.
        """
        for _ in range(self.max_draws):
            genotype = propose()
            if self.feasible is None or self.feasible(genotype):
                return genotype
            self.rejected += 1
        raise NoFeasibleCandidate(f"no candidate met the constraints in {self.max_draws:,} draws")
