"""Workers as Ray actors, on the CPU cores and GPUs of one machine or a cluster. The only scoring module that uses ray.

Ray's own restarts and retries are switched off. The scorer, with its batch of images, is sent once, through Ray's
object store. Without an address, a private cluster is started on this machine and stopped at the end
(:mod:`nas.executors.private_cluster`). If the caller has connected to a cluster already, that connection is used and
left open.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from nas.errors import UserError
from nas.executors.candidates import Candidate, CandidateScorer
from nas.executors.crew import Crew, Done, Event, Lost, Raised, Ready, Worker
from nas.executors.private_cluster import Head, chosen_cluster, ended_with, private_options
from nas.executors.stacks import score_stacks, stacks_of
from searchers.base import Trial

#: seconds for which the list of machines is reused before it is fetched again
NODES_SECONDS = 5.0
#: seconds to wait for a connection to a cluster's address
REACH_SECONDS = 20.0
#: bytes of the private cluster's object store, which holds one scorer
OBJECT_STORE = 128 * 2**20


class RayCrew(Crew):
    """Workers as Ray actors.

    :param address: address of a cluster; None: that in ``RAY_ADDRESS``, else a private cluster on this machine.
    :param workers: number of actors; None: as many as the machines have room for.
    :param cpus, gpus: what each actor reserves. With a fraction of a GPU, an actor uses at most that share of its
        memory.
    """

    def __init__(self, address: str | None, workers: int | None, cpus: float, gpus: float):
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.workers = workers
        self.cpus = cpus
        self.gpus = gpus
        self._ray: Any = None
        self._owner = False
        self._nodes: tuple[float, list[dict[str, Any]]] = (float("-inf"), [])
        self._seen: dict[str, dict[str, Any]] = {}
        self._head: Head | None = None
        self._private = ExitStack()  # what is left of a private cluster when its processes have ended

    def open(self, scorer: CandidateScorer[Any]) -> None:
        if self._ray is None:
            self.connect()
        ray = self._ray
        self._scorer = ray.put(scorer)
        self._actor = ray.remote(
            num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )(ScoringActor)

    def connect(self, object_store: int = OBJECT_STORE) -> None:
        """Connect to the cluster, or start a private one with an object store of ``object_store`` bytes.

        :raises UserError: no cluster can be reached or started, or the private one has no room for a worker.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns for workers without GPU
        self.address = chosen_cluster(self.address)
        import ray

        if ray.is_initialized():
            self._ray = ray
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address == "local":
            _read_environment()
            cores = os.cpu_count() or 1
            options["num_cpus"] = max(cores, -int(-(self.workers or 0) * self.cpus // 1))
            options |= {"object_store_memory": object_store, **self._private.enter_context(private_options())}
        try:
            reach(self.address)
            with same_signal_handlers():
                ray.init(address=self.address, **options)
        except (ValueError, RuntimeError, OSError) as error:
            self._private.close()
            if self.address == "local":
                raise UserError(f"--executor ray cannot start a private cluster: {_one_line(error)}") from None
            raise UserError(
                f"no Ray cluster can be joined at {self.address} (--address or RAY_ADDRESS): {_one_line(error)}"
            ) from None
        self._ray, self._owner = ray, True
        self._alive()
        context = ray.get_runtime_context()
        (own,) = (node for node in self._nodes[1] if node["NodeID"] == context.get_node_id())
        self._head = Head(context.gcs_address, f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}")
        if self.address == "local" and not self._room(self._alive()):
            self.close()
            raise UserError(
                f"this machine cannot hold a worker of {self._needs()}: it has {_resources(self._nodes[1])}"
            )

    def attended(self, how_to_go_on: str) -> AbstractContextManager[None]:
        """A context for calls into Ray; see :func:`nas.executors.private_cluster.ended_with`."""
        return nullcontext() if self._head is None else ended_with(self._head, how_to_go_on)

    def capacity(self) -> int:
        nodes = self._alive()
        return self._room(nodes) if self.workers is None else self.workers

    def _alive(self, seconds: float = NODES_SECONDS) -> list[dict[str, Any]]:
        """The machines of the cluster that are alive, from a list that is at most ``seconds`` old.

        :raises MachineFailed: the cluster has ended.
        """
        if self._head is not None:
            self._head.check_raylet()
        asked, nodes = self._nodes
        if time.monotonic() - asked >= seconds and (self._head is None or self._head.answers()):
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
            self._nodes = time.monotonic(), nodes
            self._seen.update((node["NodeID"], _described(node)) for node in nodes)
        return nodes

    def _room(self, nodes: list[dict[str, Any]]) -> int:
        return sum(
            min(
                int(node["Resources"].get(kind, 0.0) / amount + 1e-9)
                for kind, amount in (("CPU", self.cpus), ("GPU", self.gpus))
                if amount > 0
            )
            for node in nodes
        )

    def _needs(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"

    def hire(self) -> Worker:
        handle = self._actor.remote(self._scorer, self.gpus)
        return Worker(handle, handle.ready.remote())

    def assign(self, worker: Worker, chunk: list[Candidate[Any]]) -> None:
        worker.pending = worker.handle.score.remote(chunk)

    def wait(self, workers: Collection[Worker], seconds: float) -> list[Event]:
        ray = self._ray
        waited_for = {worker.pending: worker for worker in workers if worker.chunk or not worker.ready}
        if not waited_for:
            time.sleep(seconds)
            return []
        first, _ = ray.wait(list(waited_for), num_returns=1, timeout=seconds)
        if not first:
            return []
        finished, _ = ray.wait(list(waited_for), num_returns=len(waited_for), timeout=0)
        return [self._event(waited_for[pending]) for pending in finished or first]

    def _event(self, worker: Worker) -> Event:
        exceptions = self._ray.exceptions
        try:
            result = self._ray.get(worker.pending)
        except exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None) or error
            reason = f"{type(cause).__name__}: {_one_line(cause)}"
            return Raised(worker, reason) if worker.ready else Lost(worker, reason, blame=False)
        except exceptions.ActorUnavailableError as error:
            return Lost(worker, _one_line(error), blame=False)
        except exceptions.RayError as error:
            left = worker.node not in {node["NodeID"] for node in self._alive(0.0)}
            return Lost(worker, _cause_of_death(error), blame=not left)
        if worker.ready:
            return Done(worker, result)
        worker.node = result
        return Ready(worker)

    def dismiss(self, worker: Worker) -> None:
        self._ray.kill(worker.handle)

    def facts(self) -> dict[str, Any]:
        return {
            "name": "ray",
            "address": "private" if self.address == "local" else self.address,
            "workers": self.workers,
            "cpus_per_worker": self.cpus,
            "gpus_per_worker": self.gpus,
            "nodes": list(self._seen.values()),
        }

    def close(self) -> None:
        if self._ray is not None and self._owner:
            if self._head is None or not self._head.lost:  # otherwise it may end this process, so Python does it last
                self._ray.shutdown()
            self._private.close()
        self._ray, self._owner, self._head = None, False, None


class ScoringActor:
    """The code of a worker process: holds the scorer and scores chunks on one thread."""

    def __init__(self, scorer: CandidateScorer[Any], gpus: float):
        from nas.device import torch_threads
        from nas.executors.allocator import keep_freed_memory
        from nas.executors.local import settled_objects

        if 0 < gpus < 1:
            import torch

            if torch.cuda.is_available():
                torch.cuda.set_per_process_memory_fraction(gpus)
        keep_freed_memory()
        self._for_life = ExitStack()
        self._for_life.enter_context(torch_threads(1))
        self._for_life.enter_context(settled_objects())
        self._scorer = scorer

    def ready(self) -> str:
        """The id of the worker's machine; returns once the worker has started."""
        import ray

        node: str = ray.get_runtime_context().get_node_id()
        return node

    def score(self, chunk: list[Candidate[Any]]) -> list[Trial[Any]]:
        """One trial for each candidate, in order."""
        return list(score_stacks(self._scorer, stacks_of(chunk)))


def reach(address: str) -> None:
    """Check that ``host:port`` accepts connections, since Ray itself would retry for minutes.

    :raises OSError: it accepts none within ``REACH_SECONDS``. Addresses of another form are not checked.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()


@contextmanager
def same_signal_handlers() -> Iterator[None]:
    """A context that restores the SIGTERM handler on exit, since starting Ray replaces it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        try:
            signal.signal(signal.SIGTERM, before)
        except ValueError:  # signal handlers can be set in the main thread only
            pass


def _cause_of_death(error: Exception) -> str:
    """The reason that Ray gives for the death of a worker, in one line."""
    name = type(error).__name__
    if name == "OutOfMemoryError":
        return "worker out of memory: Ray ended it to keep its machine alive"
    text = _one_line(error)
    for line in str(error).splitlines():
        if "exit type" in line.lower() or "died" in line.lower():
            text = " ".join(line.split())
            break
    return f"worker died: {text}"


def _read_environment() -> None:
    """Let Ray read again how to authenticate, since a program may have imported it before that was decided."""
    import ray

    internals: Any = ray._raylet  # what Ray's own tests use; there is no public way
    internals.Config.initialize("")
    internals.AuthenticationTokenLoader.instance().reset_cache()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _described(node: dict[str, Any]) -> dict[str, Any]:
    resources = node["Resources"]
    return {"host": node["NodeManagerHostname"], "cpus": resources.get("CPU", 0.0), "gpus": resources.get("GPU", 0.0)}


def _resources(nodes: list[dict[str, Any]]) -> str:
    total = {kind: sum(node["Resources"].get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
    return f"{total['CPU']:g} CPUs and {total['GPU']:g} GPUs"
