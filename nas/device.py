"""The device and the number of threads that torch uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nas.errors import UserError


def torch_device(name: str) -> str:
    """The torch device that ``--device`` names; ``auto`` is ``cuda`` if a GPU is available, else ``cpu``.

    :raises UserError: not a device name, or no such device.
    """
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
    """The torch device that Ray's workers use.

    A worker sees the GPUs that it has reserved as ``cuda``. This machine need not have a GPU itself.

    :param gpus: number of GPUs that each worker reserves; None: not given.
    :raises UserError: ``name`` is not possible for workers.
    """
    if name.startswith("cuda:"):
        raise UserError(f"--device must be cpu, cuda or auto with --executor ray, got '{name}'")
    if name not in ("auto", "cuda"):
        return torch_device(name)
    if name == "cuda" or gpus:
        return "cuda"
    return torch_device("auto") if gpus is None else "cpu"


def worker_gpus(device: str, given: float | None) -> float:
    """Number of GPUs that each of Ray's workers reserves: ``given``, else 1 if ``device`` is ``cuda`` and 0 if not."""
    return float(device == "cuda") if given is None else given


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """A context in which each torch operation uses ``count`` threads (None: as before); on exit it is restored."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def tf32(use: bool | None) -> Iterator[None]:
    """A context in which float32 convolutions and matrix products on a GPU do or do not use TF32; on exit as before.

    TF32 keeps 10 of the 23 bits of a float32's fraction and is several times as fast. None: as torch has it, by default
    TF32 in convolutions and none in matrix products. On a CPU it has no effect.
    """
    import torch

    if use is None:
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    # not fp32_precision of newer versions: once it is set, torch raises an error wherever allow_tf32 is read
    matmul.allow_tf32 = cudnn.allow_tf32 = use
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
