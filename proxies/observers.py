"""What is read off the modules of a network while a pass goes through it (:mod:`proxies.passes`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from proxies.errors import ProxyError


class Observer(ABC):
    """Inside, listens to the modules of a network, while ``listening``."""

    kinds: ClassVar[tuple[type[nn.Module], ...]]
    #: promises networks that the outputs are neither changed nor differentiated, so that they may be copies
    only_looks: ClassVar[bool] = False

    def __init__(self, network: nn.Module):
        self.listening = True
        self._handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in network.named_modules()
            if isinstance(module, self.kinds)
        ]

    def _hook(self, name: str) -> Callable[..., None]:
        hook = partial(self._heard, name)
        hook.only_looks = self.only_looks  # type: ignore[attr-defined]
        return hook

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    @abstractmethod
    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None: ...

    def begin(self, start: int) -> None:
        """A pass begins, over the images from number ``start`` on."""
        return

    @abstractmethod
    def value(self, start: int, stop: int) -> Any:
        """What was asked for of these images, or the ProxyError that says why there is none."""


class AgreementObserver(Observer):
    """Of how many ReLU inputs two images have the same sign, ``(N, N)``."""

    kinds = (nn.ReLU, nn.ReLU6)
    only_looks = True

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self._passes: list[tuple[int, list[Tensor]]] = []  # the first image's number, codes (N, units) by call

    def begin(self, start: int) -> None:
        self._passes.append((start, []))

    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.listening:
            on = output.detach() > 0
            units_last = on.permute(0, 2, 3, 1) if on.ndim == 4 else on  # no copy in channels_last
            self._passes[-1][1].append(units_last.flatten(1))

    def value(self, start: int, stop: int) -> Tensor | ProxyError:
        heard = [codes for first, codes in sorted(self._passes, key=lambda each: each[0]) if start <= first < stop]
        agreements = [agreement(torch.cat(parts)) for parts in zip(*heard, strict=True)]
        if not agreements:
            return ProxyError("the network calls no nn.ReLU module; functional relus cannot be observed")
        return torch.stack(agreements).sum(0)


def agreement(codes: Tensor) -> Tensor:
    """``(N, N)``, float64: on how many of the units two rows of ``codes`` ``(N, units)`` agree."""
    codes = codes.to(torch.float32)  # exact: there are fewer than 2^24 units of a layer
    on = codes.sum(1)
    return (codes.shape[1] - on - on.unsqueeze(1) + 2 * codes @ codes.t()).double()


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
            if output.ndim > 2:
                saliency = saliency.sum(tuple(range(2, output.ndim)))
            self._saliency[name] = self._saliency[name] + saliency if name in self._saliency else saliency

    def value(self, start: int, stop: int) -> dict[str, Tensor]:
        return self._saliency
