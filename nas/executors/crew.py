"""The contract between a supervisor, which hands out work, and a crew, which starts, watches and stops the workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nas.executors.candidates import Candidate, CandidateScorer
from searchers.base import Trial


@dataclass(eq=False)
class Worker:
    """One worker process. ``chunk`` is empty unless it is busy; ``node``, the id of its machine, is set when ready."""

    handle: Any
    pending: Any  # future that the crew waits for: that the worker is ready, or that its chunk is finished
    ready: bool = False
    node: str = ""
    chunk: list[Candidate[Any]] = field(default_factory=list)
    deadline: float = float("inf")  # time.monotonic() at which the chunk is overdue


@dataclass(frozen=True)
class Ready:
    """The worker has started and can take its first chunk."""

    worker: Worker


@dataclass(frozen=True)
class Done:
    """The worker has finished its chunk; ``trials`` are its results."""

    worker: Worker
    trials: Sequence[Trial[Any]]


@dataclass(frozen=True)
class Raised:
    """The worker is alive, but an exception that the scorer did not catch ended its chunk."""

    worker: Worker
    reason: str


@dataclass(frozen=True)
class Lost:
    """The worker has died or was lost. ``blame``: whether the candidates that it was scoring may be the cause."""

    worker: Worker
    reason: str
    blame: bool


Event: TypeAlias = Ready | Done | Raised | Lost


class Crew(ABC):
    """Starts, watches and stops workers, and knows the machines that they run on."""

    @abstractmethod
    def open(self, scorer: CandidateScorer[Any]) -> None:
        """Workers started from now on use ``scorer``; the first call may take seconds.

        :raises UserError: no machines can be reached, or none has room for a worker.
        """

    @abstractmethod
    def capacity(self) -> int:
        """The largest number of workers to have at present; it changes when machines join or leave the cluster."""

    @abstractmethod
    def hire(self) -> Worker:
        """Start a worker; :meth:`wait` returns a :class:`Ready` event for it later."""

    @abstractmethod
    def assign(self, worker: Worker, chunk: list[Candidate[Any]]) -> None:
        """Give a ready worker its next chunk."""

    @abstractmethod
    def wait(self, workers: Collection[Worker], seconds: float) -> list[Event]:
        """Wait for events of these workers and return them; an empty list if there is none within ``seconds``."""

    @abstractmethod
    def dismiss(self, worker: Worker) -> None:
        """Stop a worker at once, even if it is busy."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """A description of the machines, for the manifest."""

    @abstractmethod
    def close(self) -> None:
        """Stop everything that :meth:`open` started."""
