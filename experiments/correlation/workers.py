"""Scores cells in several worker processes of one thread each.

A worker gets a task when it has finished its previous one, so if a worker process ends, only its current task is lost.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

import torch

from experiments.correlation.scoring import Job, Record, Task
from nas.device import torch_threads
from nas.errors import MachineFailed, Stopped
from nas.executors.allocator import keep_freed_memory


def scored(job: Job, tasks: Sequence[Task], workers: int) -> Iterator[Record]:
    """Yields a record for each task as soon as it is finished; a single worker is this process itself.

    :raises Stopped: a worker process ended. :raises MachineFailed: it lacked memory or something else.
    """
    workers = min(workers, len(tasks))
    return _in_processes(job, list(tasks), workers) if workers > 1 else _in_this_process(job, tasks)


def _in_this_process(job: Job, tasks: Sequence[Task]) -> Iterator[Record]:
    keep_freed_memory()
    with torch_threads(1):
        yield from map(job.scorer(), tasks)


def _in_processes(job: Job, tasks: list[Task], workers: int) -> Iterator[Record]:
    crew: dict[Connection, SpawnProcess] = {}
    waiting = iter(tasks)
    try:
        with _interrupts_ignored():  # workers inherit this: only this process reacts to Ctrl-C
            for _ in range(workers):
                connection, process = _start(job)
                crew[connection] = process
        at_work = {connection for connection in crew if _hand_out(connection, crew, waiting)}
        while at_work:
            ready = [cast(Connection, each) for each in wait(list(at_work))]
            ended = []
            for connection in ready:
                try:
                    received = connection.recv()
                except (EOFError, OSError):
                    ended.append(connection)  # after the records of the other workers
                    continue
                if isinstance(received, MachineFailed):
                    raise type(received)(f"{received} (fewer --workers need less)")
                yield received
            for connection in ended:
                raise _obituary(crew[connection])
            at_work.difference_update(each for each in ready if not _hand_out(each, crew, waiting))
    finally:
        for connection, process in crew.items():
            process.terminate()
            connection.close()
        for process in crew.values():
            process.join()


def _start(job: Job) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, job), daemon=True)
    process.start()
    there.close()  # so that the connection closes when the worker ends
    return here, process


def _hand_out(connection: Connection, crew: Mapping[Connection, SpawnProcess], waiting: Iterator[Task]) -> bool:
    """Send the worker its next task; False if there is none left."""
    task = next(waiting, None)
    if task is None:
        return False
    try:
        connection.send(task)
    except OSError:
        raise _obituary(crew[connection]) from None
    return True


def _work(connection: Connection, job: Job) -> None:
    """The work of a worker process: scores tasks until the connection is closed."""
    keep_freed_memory()
    torch.set_num_threads(1)
    score = job.scorer()
    gc.freeze()  # the garbage collector need not look at what exists by now
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = connection.recv()
            try:
                connection.send(score(task))
            except MachineFailed as failure:
                connection.send(failure)


def _obituary(process: SpawnProcess) -> Stopped:
    process.join(10)
    code = process.exitcode
    if code is None or code >= 0:
        return Stopped(f"a worker process ended with exit code {code}")
    hint = " (out of memory? fewer --workers need less)" if -code == signal.SIGKILL else ""
    return Stopped(f"a worker process was killed by {signal.Signals(-code).name}{hint}")


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread; only the main thread is interrupted
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
