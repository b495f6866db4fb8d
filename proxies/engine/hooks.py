"""What is read off the modules of a network while a pass goes through it (:mod:`proxies.engine.passes`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from proxies.errors import ProxyError


class Observer(ABC):
    """Inside, listens to the modules of a network, while ``listening``."""

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
        """A pass to listen to begins, over so many images from number ``start`` on; ``more``: it is not the last."""
        return

    @abstractmethod
    def value(self, start: int, stop: int) -> Any:
        """What was asked for of these images, or the ProxyError that says why there is none."""


class AgreementObserver(Observer):
    """Of how many ReLU inputs two images have the same sign, ``(N, N)``.

    Counted while the pass goes on; only codes that images of a later pass have to be compared with are kept.
    """

    kinds = (nn.ReLU, nn.ReLU6)

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self._passes: list[_Codes] = []

    def begin(self, start: int, images: int, *, more: bool) -> None:
        self._passes.append(_Codes(start, images, keep=more, before=tuple(self._passes)))

    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.listening:
            on = output.detach().clone().gt_(0)  # ones and zeros of the output's type
            units_last = on.permute(0, 2, 3, 1) if on.ndim == 4 else on  # no copy in channels_last
            self._passes[-1].add(units_last.flatten(1))

    def value(self, start: int, stop: int) -> Tensor | ProxyError:
        of_these = [each for each in self._passes if start <= each.start < stop]
        for each in of_these:
            if each.error is not None:
                return each.error
        calls = {each.calls for each in of_these}
        if calls == {0}:
            return ProxyError("the network calls no nn.ReLU module; functional relus cannot be observed")
        if len(calls) > 1:
            times = " or ".join(map(str, sorted(calls)))
            return ProxyError(f"the network calls its ReLUs {times} times, by the images")
        return torch.cat([torch.cat([_between(row, column) for column in of_these], 1) for row in of_these])


class _Codes:
    """The ReLU codes of one pass: how they agree with each other and with those of the passes before.

    :param keep: whether a later pass will be compared with this one.
    """

    def __init__(self, start: int, images: int, *, keep: bool, before: tuple[_Codes, ...]):
        self.start = start
        self.calls = 0
        self.error: ProxyError | None = None  # why there is nothing to compare
        self.kept: list[Tensor] = []  # of each call
        self.agreements: dict[int, Tensor] = {}  # by the start of a pass, whose images are the columns
        self._images = images
        self._keep = keep
        self._before = before

    def add(self, on: Tensor) -> None:
        """Another call's, ``(images, units)``, 0 or 1."""
        if len(on) != self._images:
            self.error = ProxyError(f"a ReLU is given {len(on)} rows, expected one for each of {self._images} images")
        if self.error is not None:
            return
        if self._keep:
            self.kept.append(on.to(torch.int8))
        self._count(self.start, on, on)
        for other in self._before:
            if self.calls < len(other.kept):  # or it had fewer calls, of which its value tells
                self._count(other.start, on, other.kept[self.calls])
        self.calls += 1

    def _count(self, start: int, on: Tensor, theirs: Tensor) -> None:
        agreeing = agreement(on, theirs)
        self.agreements[start] = self.agreements[start].add_(agreeing) if start in self.agreements else agreeing


def _between(row: _Codes, column: _Codes) -> Tensor:
    """The block of the matrix where the images of two passes meet."""
    found = row.agreements.get(column.start)
    return column.agreements[row.start].t() if found is None else found


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """``(N, M)``, float64: on how many of the units a row of a and a row of b, of zeros and ones, agree."""
    a, b = a.float(), b.float()  # exact: there are fewer than 2^24 units of a layer
    return (a.shape[1] - a.sum(1).unsqueeze(1) - b.sum(1) + 2 * (a @ b.t())).double()


class SaliencyObserver(Observer):
    """The sum over pixels of a layer's output times its gradient, ``(N, channels)`` by layer."""

    kinds = (nn.Conv2d, nn.Linear)

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self._saliency: dict[str, Tensor] = {}

    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.listening and output.requires_grad:
            output.register_hook(partial(self._gradient, name, output.detach()))  # type: ignore[no-untyped-call]

    def _gradient(self, name: str, output: Tensor, gradient: Tensor) -> None:
        if self.listening:
            saliency = output * gradient
            saliency = saliency.sum(tuple(range(2, output.ndim))) if output.ndim > 2 else saliency
            self._saliency[name] = self._saliency[name] + saliency if name in self._saliency else saliency

    def value(self, start: int, stop: int) -> dict[str, Tensor]:
        return self._saliency
