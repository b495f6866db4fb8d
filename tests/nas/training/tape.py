"""A CUDA graph on the CPU: torch's operations are recorded, and replayed without the Python code that called them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.training.replay import Outputs

#: operations that a capture refuses: they read a value back to the host, the shape of their result depends on values,
#: or they copy numbers from the host (``torch.tensor`` ends in ``lift_fresh``)
SYNCHRONISING = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique", "lift_fresh")


class Tape:
    """A recorder that refuses what a CUDA graph refuses: values read back, and generators of the caller's own.

    Recording has no effect: tensors from outside that it writes to get their values back. A replay repeats the
    operations, with the numbers of the recording, on the tensors of the recording.
    """

    def __init__(self) -> None:
        self.runs = self.replays = 0
        self.operations: list[int] = []  # of each recording
        self.forgotten = 0

    def run(self, function: Callable[[], Outputs]) -> Outputs:
        self.runs += 1
        return function()

    def record(self, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
        state = torch.random.get_rng_state()
        mode = _Recording()
        try:
            with mode:
                outputs = function()
        finally:
            for tensor, before in mode.changed:
                tensor.copy_(before)
            torch.random.set_rng_state(state)
        self.operations.append(len(mode.calls))

        @torch.no_grad()
        def replay() -> Outputs:
            self.replays += 1
            for operation, args, kwargs, made in mode.calls:
                for old, new in zip(made, tensors(operation(*args, **kwargs)), strict=True):
                    if old is not new and not shares(old, args, kwargs):
                        old.copy_(new)
            return outputs

        return replay

    def forget(self) -> None:
        self.forgotten += 1


class Refusing(Tape):
    """A recorder with which nothing can be recorded; the function has already done half of its work when it fails."""

    def record(self, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
        super().record(function)
        try:
            raise RuntimeError("operation not permitted when stream is capturing")
        except RuntimeError:
            raise RuntimeError("capture was invalidated")  # noqa: B904  # as the end of torch's capture does


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.changed: list[tuple[Tensor, Tensor]] = []  # tensors from outside and their values before
        self._own: set[int] = set()  # storages made while recording; all of them stay alive

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name in SYNCHRONISING or any(isinstance(each, torch.Generator) for each in kwargs.values()):
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        for tensor in written(func, args, kwargs):
            if tensor.untyped_storage().data_ptr() not in self._own:
                self.changed.insert(0, (tensor.detach(), tensor.detach().clone()))  # the first value is put back last
        result = func(*args, **kwargs)
        made = tensors(result)
        for each in made:
            if not shares(each, args, kwargs):
                self._own.add(each.untyped_storage().data_ptr())
        self.calls.append((func, args, kwargs, made))
        return result


def tensors(tree: Any) -> list[Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor)]


def shares(tensor: Tensor, *trees: Any) -> bool:
    """Whether the tensor is a view of one of those in the trees, or one of them."""
    storage = tensor.untyped_storage().data_ptr()
    return any(each.untyped_storage().data_ptr() == storage for each in tensors(trees))


def written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The arguments that the operation writes to."""
    named = {argument.name: value for argument, value in zip(func._schema.arguments, args)}  # noqa: B905  # defaults
    named |= kwargs
    for argument in func._schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors(named.get(argument.name))
        elif func._schema.name == "aten::native_batch_norm" and argument.name.startswith("running_"):
            yield from tensors(named.get(argument.name))  # its schema does not say so
