"""Observers: forward hooks that record quantities during the passes of :mod:`proxies.engine.passes`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from proxies.errors import ProxyError

NO_RELU = (
    "the network calls no nn.ReLU module, by whose states images are compared: smooth activations such as SiLU have no"
    " such states, and functional relus cannot be observed"
)


class Observer(ABC):
    """Has a forward hook on each module of the types ``kinds`` until the context ends.

    The hooks record something only while ``listening`` is True.
    """

    kinds: ClassVar[tuple[type[nn.Module], ...]]

    def __init__(self, network: nn.Module):
        self.listening = True
        self._handles = [
            module.register_forward_hook(partial(self._heard, name))
            for name, module in network.named_modules()
            if isinstance(module, self.kinds)
        ]

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    @abstractmethod
    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None: ...

    def begin(self, start: int, images: int, *, more: bool) -> None:
        """Called before a pass that is to be recorded.

        :param start: the number of its first image.
        :param images: how many images it has.
        :param more: whether a further pass follows that is to be recorded.
        """
        return

    @abstractmethod
    def value(self, start: int, stop: int) -> Any:
        """The quantity for the images ``start`` to ``stop``, or the ProxyError that says why it does not exist."""


def readers_of(relu: nn.Module) -> int:
    """How many operations read the output of a ReLU: its attribute ``readers`` where it has one, otherwise 1.

    A network that computes a ReLU once for several operations sets it. By this number its ReLU units are as many as
    those of a network in which each operation has a ReLU of its own.
    """
    readers: int = getattr(relu, "readers", 1)
    return readers


class AgreementObserver(Observer):
    """The number of ReLU units at which two images agree, ``(N, N)``: the input is positive for both, or for neither.

    The ReLU code of an image has a 1 for each unit with a positive input. A unit counts once for each operation that
    reads it. Agreements are counted during the pass. Codes are kept only if images of a later pass have to be compared
    with them. In a stack of K networks (:mod:`proxies.stack`) the numbers are ``(K, N, N)``; a ReLU says by its
    attributes ``owners`` and ``width`` to which of the K networks each block of its channels belongs.
    """

    kinds = (nn.ReLU, nn.ReLU6)
    once: ClassVar[bool] = False  # whether a unit counts once, however many operations read it

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self._passes: list[_Codes] = []

    def begin(self, start: int, images: int, *, more: bool) -> None:
        self._passes.append(_Codes(start, images, keep=more, before=tuple(self._passes)))

    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.listening:
            on = output.detach().clone().gt_(0)  # ones and zeros, in the output's dtype
            times = 1 if self.once else readers_of(module)
            owners: tuple[int, ...] | None = getattr(module, "owners", None)
            if owners is not None:
                blocks, width = on.reshape(len(on), len(owners), -1), getattr(module, "width", 1)
                self._passes[-1].add(blocks, times, torch.tensor(owners, device=on.device), width)
            else:
                units_last = on.permute(0, 2, 3, 1) if on.ndim == 4 else on  # no copy in channels_last
                self._passes[-1].add(units_last.flatten(1), times)

    def value(self, start: int, stop: int) -> Tensor | ProxyError:
        of_these = [each for each in self._passes if start <= each.start < stop]
        for each in of_these:
            if each.error is not None:
                return each.error
        calls = {each.calls for each in of_these}
        if calls == {0}:
            return ProxyError(NO_RELU)
        if len(calls) > 1:
            times = " or ".join(map(str, sorted(calls)))
            return ProxyError(f"the network calls its ReLUs {times} times, by the images")
        return torch.cat([torch.cat([_between(row, column) for column in of_these], -1) for row in of_these], -2)


class AgreementOnceObserver(AgreementObserver):
    """As :class:`AgreementObserver`, but every unit counts once."""

    once = True


class _Codes:
    """The agreements of the ReLU codes of one pass, with each other and with the codes of earlier passes.

    :param keep: whether to keep the codes, for the comparison with a later pass.
    :param before: the earlier passes.
    """

    def __init__(self, start: int, images: int, *, keep: bool, before: tuple[_Codes, ...]):
        self.start = start
        self.calls = 0
        self.error: ProxyError | None = None  # why the codes cannot be compared
        self.kept: list[Tensor] = []  # the codes of each call of a ReLU
        self.agreements: dict[int, Tensor] = {}  # by the start of the pass whose images are the columns
        self._images = images
        self._keep = keep
        self._before = before

    def add(self, on: Tensor, times: int, owners: Tensor | None = None, width: int = 1) -> None:
        """Add the codes ``(images, units)``, zeros and ones, of the next call of a ReLU, each counted ``times``.

        :param owners: ``(B,)``, to which network of a stack of ``width`` each of B blocks belongs; the codes are
            ``(images, B, units)`` then.
        """
        if len(on) != self._images:
            self.error = ProxyError(f"a ReLU is given {len(on)} rows, expected one for each of {self._images} images")
        if self.error is not None:
            return
        if self._keep:
            self.kept.append(on.to(torch.int8))
        earlier = [(each.start, each.kept[self.calls]) for each in self._before if self.calls < len(each.kept)]
        for start, theirs in [(self.start, on), *earlier]:  # if one is missing, value() reports it
            if owners is None:
                self._count(start, agreement(on, theirs) * times)
            else:  # sums of integers, exact in any order
                by_block = agreement(on.transpose(0, 1), theirs.transpose(0, 1)) * times
                sums = by_block.new_zeros(width, *by_block.shape[1:])
                self._count(start, sums.index_add_(0, owners, by_block))
        self.calls += 1

    def _count(self, start: int, agreeing: Tensor) -> None:
        self.agreements[start] = self.agreements[start].add_(agreeing) if start in self.agreements else agreeing


def _between(row: _Codes, column: _Codes) -> Tensor:
    """The block of the matrix with the images of ``row`` as rows and those of ``column`` as columns."""
    found = row.agreements.get(column.start)
    return column.agreements[row.start].mT if found is None else found


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """``(..., N, M)``, float64: the number of units at which a row of ``a`` equals one of ``b``, of zeros and ones."""
    a, b = a.float(), b.float()  # exact, since a layer has fewer than 2^24 units
    differing = a.sum(-1).unsqueeze(-1) + b.sum(-1).unsqueeze(-2) - 2 * (a @ b.mT)
    return (a.shape[-1] - differing).double()


class SaliencyObserver(Observer):
    """For each layer ``(N, channels)``: its output times the gradient with respect to it, summed over pixels."""

    kinds = (nn.Conv2d, nn.Linear)

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self._saliency: dict[str, Tensor] = {}
        #: whether the module after a layer may change its output
        self._in_place = any(getattr(module, "inplace", False) for module in network.modules())

    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.listening and output.requires_grad:
            kept = output.detach().clone() if self._in_place else output.detach()
            output.register_hook(partial(self._gradient, name, kept))  # type: ignore[no-untyped-call]

    def _gradient(self, name: str, output: Tensor, gradient: Tensor) -> None:
        if self.listening:
            saliency = output * gradient
            saliency = saliency.sum(tuple(range(2, output.ndim))) if output.ndim > 2 else saliency
            self._saliency[name] = self._saliency[name] + saliency if name in self._saliency else saliency

    def value(self, start: int, stop: int) -> dict[str, Tensor]:
        return self._saliency
