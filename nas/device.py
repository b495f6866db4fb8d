"""Where torch computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nas.errors import UserError


def torch_device(name: str) -> str:
    """The torch device of ``--device``, checked to be there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(f"--device must be cpu, cuda, cuda:N or auto, got '{name}'")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
    return name


def worker_device(name: str, gpus: float | None) -> str:
    """The torch device of Ray's workers, which see the GPUs that they reserved as ``cuda``; this machine may have none.

    :param gpus: reserved by each; None: not given.
    :raises UserError: the options contradict each other.
    """
    if name.startswith("cuda:"):
        raise UserError(f"--device must be cpu, cuda or auto with --executor ray, got '{name}'")
    if name not in ("auto", "cuda"):
        return torch_device(name)
    if name == "cuda" or gpus:
        return "cuda"
    return torch_device("auto") if gpus is None else "cpu"


def worker_gpus(device: str, given: float | None) -> float:
    """How many GPUs each of Ray's workers reserves: what is given, else one where it computes on one."""
    return float(device == "cuda") if given is None else given


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Inside, torch's operations use so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
