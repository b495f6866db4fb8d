"""Whose fault a failure is."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from nas.errors import MachineFailed, OutOfMemory, Unwritable, UserError
from nas.executors.failures import machine_failure, told_failure
from proxies.errors import ProxyError

CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    " 524288 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB."


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "somewhere")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), MemoryError("Unable to allocate 8.00 GiB for an array"), RuntimeError(CPU),
        torch.OutOfMemoryError(CUDA), RuntimeError("CUDA error: out of memory"), RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"), RuntimeError("can't start new thread"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), os_error(errno.ENOMEM),
        os_error(errno.EAGAIN), OutOfMemory("told before"),
    ],
)  # fmt: skip
def test_want_of_memory_is_the_machine_s(error: Exception) -> None:
    failure = machine_failure(error)
    assert type(failure) is OutOfMemory and failure is not error
    assert type(told_failure(f"{type(error).__name__}: {error}")) is OutOfMemory


@pytest.mark.parametrize(
    "error",
    [
        os_error(errno.ENOSPC), os_error(errno.EDQUOT), os_error(errno.EIO), os_error(errno.EMFILE),
        Unwritable("trials.jsonl cannot be written: No space left on device"), MachineFailed("no worker"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    ],
)  # fmt: skip
def test_disks_and_devices_are_the_machine_s(error: Exception) -> None:
    assert type(machine_failure(error)) is MachineFailed
    assert type(told_failure(f"{type(error).__name__}: {error}")) is MachineFailed


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"), RecursionError("maximum recursion depth exceeded"), ProxyError("out of memory"),
        UserError("unable to allocate a name"), ArithmeticError("nan"), FileNotFoundError(errno.ENOENT, "no such file"),
        RuntimeError("could not create a primitive descriptor for a convolution"),
        RuntimeError("CUDA error: invalid configuration argument"),
    ],
)  # fmt: skip
def test_others_are_the_candidate_s(error: Exception) -> None:
    assert machine_failure(error) is None


def test_what_an_error_was_raised_from_counts() -> None:
    def raised(hidden: bool) -> Exception:
        try:
            try:
                raise MemoryError("no room")
            except MemoryError as error:
                raise ProxyError("no score") from (None if hidden else error)
        except ProxyError as error:
            return error

    for hidden in (True, False):
        failure = machine_failure(raised(hidden))
        assert type(failure) is OutOfMemory and "no room" in str(failure)
        assert failure.__cause__ is failure.__context__ is failure.__traceback__ is None
    task = RuntimeError("a task failed")
    task.cause = MachineFailed("the disk is full")  # type: ignore[attr-defined]  # as Ray's errors have it
    assert str(machine_failure(task)) == "the disk is full"


def test_a_reason_without_words_is_nobody_s() -> None:
    assert told_failure(None) is told_failure("") is told_failure("ProxyError: no gradient") is None
