"""Rows, the form that tensors have inside of a pass computed as a whole (:mod:`search_spaces.whole_pass`).

Rows are a matrix ``(N H W, C)``, one row for each pixel of each image: the memory of an ``(N, C, H, W)`` tensor in
channels_last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from search_spaces.operations import hooked

Pixels: TypeAlias = tuple[int, int, int]  # images, height, width


class NotPlain(Exception):
    """A module has to be called as it stands."""


class Rows(NamedTuple):
    """``(N H W, C)`` and ``(N, H, W)``."""

    values: Tensor
    pixels: Pixels

    @property
    def image(self) -> Tensor:
        """``(N, C, H, W)``, a view in channels_last."""
        return self.values.view(*self.pixels, self.values.shape[1]).permute(0, 3, 1, 2)


def rows(x: Tensor) -> Rows:
    """Of ``(N, C, H, W)``; a view where that is channels_last."""
    n, c, h, w = x.shape
    return Rows(x.permute(0, 2, 3, 1).reshape(n * h * w, c), (n, h, w))


class Parameters:
    """What a pass computes with, and the gradients that a backward pass has found.

    ``kept``: whether there may be a backward pass. ``repeated``: whether the forward pass runs once more, to be
    differentiated itself, so that nobody is to notice it.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.kept = True
        self.repeated = False
        self.gradients: list[Tensor | None] = []
        self.wanted: Sequence[bool] = ()

    def add(self, tensor: Tensor) -> int:
        """The number by which the tensor is known."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def want(self, wanted: Sequence[bool]) -> None:
        """A backward pass begins, for these."""
        self.wanted, self.gradients = wanted, [None] * len(self.tensors)

    def taken(self) -> list[Tensor | None]:
        """The gradients, which are handed over."""
        gradients, self.gradients = self.gradients, []
        return gradients


class Gradient:
    """The gradient by one state, summed up over all that read it."""

    def __init__(self, value: Tensor | None = None, *, own: bool = False):
        self.value = value
        self.own = own  # whether the sum may be changed in place

    def add(self, more: Tensor, *, own: bool) -> None:
        """Adds rows. :param own: whether nobody else holds them."""
        if self.value is None:
            self.value, self.own = more, own
        elif self.own:
            self.value.add_(more)
        else:
            self.value, self.own = self.value + more, True

    def add_all(self, more: Gradient) -> None:
        """Adds another sum, which is not to be used any more."""
        if more.value is not None:
            self.add(more.value, own=more.own)

    def to_add_to(self) -> Tensor | None:
        """The sum, if others may add to it in memory."""
        return self.value if self.own and self.value is not None and self.value.is_contiguous() else None

    def add_product(self, a: Tensor, b: Tensor) -> None:
        """Adds ``a @ b``."""
        if self.value is None:
            self.value = a @ b
        else:
            self.value = torch.addmm(self.value, a, b, out=self.value if self.own else None)
        self.own = True

    def add_at(self, more: Tensor, pixels: Pixels, first: int) -> None:
        """Adds an image ``(N, h, w, C)`` to every second row and column of the state's, beginning at ``first``."""
        n, h, w = pixels
        c = more.shape[-1]
        if self.value is None:
            self.value = more.new_zeros(n * h * w, c)
        elif not self.own:
            self.value = self.value.clone(memory_format=torch.contiguous_format)
        self.own = True
        self.value.view(n, h, w, c)[:, first::2, first::2] += more


def image(values: Tensor, pixels: Pixels) -> Tensor:
    """Rows, dense or not, as an image in channels_last."""
    return Rows(values.contiguous(), pixels).image


class RowOperation(ABC):
    """One operation in one pass."""

    #: whether the output is no one else's, so that it may be changed in place
    fresh: ClassVar[bool] = True

    def __init__(self, parameters: Parameters):
        self._parameters = parameters

    @abstractmethod
    def forward(self, x: Rows) -> Rows:
        """The output."""

    @abstractmethod
    def backward(self, gradient: Tensor, into: Gradient) -> None:
        """From the output's gradient ``(rows, channels)`` to the input's, and to those of the parameters."""

    def _find(self, number: int, gradient: Callable[[], Tensor]) -> None:
        """Computes the gradient of a parameter, if it is wanted."""
        if self._parameters.wanted[number]:
            self._parameters.gradients[number] = gradient()


def through(operation: RowOperation, gradient: Tensor) -> Gradient:
    """The gradient by the operation's input alone."""
    into = Gradient()
    operation.backward(gradient, into)
    return into


def check_plain(module: nn.Module, *kinds: type[nn.Module]) -> None:
    """:raises NotPlain: the module is of none of these kinds, has a forward of its own, or somebody listens to it."""
    if type(module) not in kinds or "forward" in module.__dict__ or hooked(module):
        raise NotPlain


#: Is told the saliency of a layer, ``(N, channels)``: the sum over pixels of its output times the gradient by that.
Taker: TypeAlias = Callable[[Tensor], None]


def check_convolution(conv: nn.Conv2d, kind: type[nn.Conv2d]) -> list[Taker]:
    """Who asks for its saliency.

    :raises NotPlain: it is none of that kind, or has a bias or padding other than the search space's.
    """
    takers = check_layer(conv, kind)
    if conv.bias is not None or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise NotPlain
    return takers


def check_layer(layer: nn.Module, kind: type[nn.Module]) -> list[Taker]:
    """Who asks for its saliency, by a forward hook with an attribute ``takes_saliency``.

    :raises NotPlain: it is none of that kind, has a forward of its own, or somebody listens to it for anything else.
    """
    if not layer._forward_hooks:
        check_plain(layer, kind)
        return []
    takers = [promised(hook, "takes_saliency") for hook in layer._forward_hooks.values()]
    if type(layer) is not kind or "forward" in layer.__dict__ or not all(takers):
        raise NotPlain
    if layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        raise NotPlain
    return [each for each in takers if each is not None]


def promised(hook: Any, name: str) -> Any:
    """What a hook says of itself by an attribute of that name; None if it has none of its own."""
    return getattr(hook, "__dict__", {}).get(name)


def tell(takers: Sequence[Taker], output: Tensor, gradient: Tensor, images: int) -> None:
    """Both rows, of so many images."""
    if takers:
        saliency = (output * gradient).view(images, -1, output.shape[1]).sum(1)
        for taker in takers:
            taker(saliency)
