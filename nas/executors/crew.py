"""The contract between what supervises workers and what runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nas.executors.candidates import Candidate, CandidateScorer
from searchers.base import Trial


@dataclass(eq=False)
class Worker:
    """One process that scores. It has a chunk while it is busy; ``node`` is known once it is ready."""

    handle: Any
    pending: Any  # what the crew waits for: the worker to be ready, or its chunk to be done
    ready: bool = False
    node: str = ""
    chunk: list[Candidate[Any]] = field(default_factory=list)
    deadline: float = float("inf")  # of the chunk, on the monotonic clock


@dataclass(frozen=True)
class Ready:
    """The worker waits for its first chunk."""

    worker: Worker


@dataclass(frozen=True)
class Done:
    """The worker has finished its chunk."""

    worker: Worker
    trials: Sequence[Trial[Any]]


@dataclass(frozen=True)
class Raised:
    """The worker lives, but a Python exception that no scorer catches kept it from its chunk."""

    worker: Worker
    reason: str


@dataclass(frozen=True)
class Lost:
    """The worker is gone. ``blame``: what it was at may be the cause."""

    worker: Worker
    reason: str
    blame: bool


Event: TypeAlias = Ready | Done | Raised | Lost


class Crew(ABC):
    """Workers, and the machines they run on."""

    @abstractmethod
    def open(self, scorer: CandidateScorer[Any]) -> None:
        """Workers hired from now on score with ``scorer``; the first call may take seconds.

        :raises UserError: there are no such machines, or none can hold a worker.
        """

    @abstractmethod
    def capacity(self) -> int:
        """How many workers there should be at most; it changes as machines come and go."""

    @abstractmethod
    def hire(self) -> Worker:
        """Starts a worker; an event says when it is ready."""

    @abstractmethod
    def assign(self, worker: Worker, chunk: list[Candidate[Any]]) -> None:
        """Gives a ready worker its next chunk."""

    @abstractmethod
    def wait(self, workers: Collection[Worker], seconds: float) -> list[Event]:
        """What has happened to these workers; after ``seconds`` nothing may have."""

    @abstractmethod
    def dismiss(self, worker: Worker) -> None:
        """Ends a worker at once, whatever it is doing."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the manifest says of the machines."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything that :meth:`open` started."""
