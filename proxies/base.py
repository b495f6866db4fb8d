"""The contract of a proxy, and what proxies look at: one untrained network and one labelled batch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from proxies.engine.modes import NormMode as NormMode
from proxies.engine.passes import Function as Function
from proxies.engine.passes import ProxyError as ProxyError
from proxies.engine.passes import Request as Request
from proxies.engine.passes import run_requests

Direction = Literal["maximize", "minimize"]
Cost = Literal["count", "forward", "backward"]

T = TypeVar("T")


class Proxy(ABC):
    """What an untrained network is worth.

    ``direction`` says which way is better, ``cost`` what the value takes: counting only, a forward or a backward pass.
    """

    name: ClassVar[str]
    direction: ClassVar[Direction]
    cost: ClassVar[Cost]

    def requests(self, probe: Probe) -> Iterable[Request]:
        """What :meth:`score` will ask the probe for, so that it can share its passes with other proxies."""
        return ()

    @abstractmethod
    def score(self, probe: Probe) -> float:
        """The value. Leaves network, buffers, modes and random state as they were.

        :raises ProxyError: there is none.
        """


class Probe:
    """One untrained network and one labelled batch; whatever proxies ask for is computed once and shared.

    What one proxy asks for is computed by itself, unless :meth:`plan` was told of others before: then all that one pass
    through the network can give is taken from one.

    :param network: the classifier, ``(N, C, H, W)`` -> ``(N, classes)``, or a function that builds it, always
        the same.
    :param images: ``(N, C, H, W)`` in [0, 1], on the network's device.
    :param labels: ``(N,)``, int64.
    :param counted: ``params`` and ``macs`` where they are known already; otherwise they are counted on the network.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module],
        images: Tensor,
        labels: Tensor,
        *,
        counted: Mapping[str, int] | None = None,
    ):
        if images.ndim != 4 or len(images) != len(labels) or len(images) == 0:
            raise ValueError(
                f"expected images (N, C, H, W) and labels (N,) with N > 0, got {tuple(images.shape)} and"
                f" {tuple(labels.shape)}"
            )
        self._network = network
        self.images = images
        self.labels = labels
        self._counted = dict(counted or {})
        self._planned: dict[Request, None] = {}  # an ordered set
        self._found: dict[Request, Any] = {}
        self._made: dict[Hashable, Any] = {}

    @cached_property
    def network(self) -> nn.Module:
        """The network itself; a proxy that changes it asks for a :meth:`copy`."""
        return self._network if isinstance(self._network, nn.Module) else self._network()

    def copy(self) -> nn.Module:
        """A fresh copy of the network, to be changed at will."""
        if isinstance(self._network, nn.Module):
            return copy.deepcopy(self._network)
        return self._network()  # at half the cost of a deep copy

    @cached_property
    def layer_weights(self) -> dict[str, Tensor]:
        """The weights of the convolutions and linear layers, by parameter name."""
        return layer_weights(self.network)

    @cached_property
    def params(self) -> int:
        """Number of trainable parameters."""
        if "params" in self._counted:
            return self._counted["params"]
        return sum(each.numel() for each in self.network.parameters() if each.requires_grad)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers for one image."""
        if "macs" in self._counted:
            return self._counted["macs"]
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        network = self.copy().to("meta").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(self.images[:1].to("meta"))
        flops: int = counter.get_total_flops()
        return flops // 2

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """``make()``, called the first time only: what several proxies of one family look at."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def first(self, images: int | None, default: int) -> tuple[Tensor, Tensor]:
        """The first images of the batch, and their labels.

        :param images: how many; None: ``default``, or all where the batch holds fewer.
        """
        n = min(default, len(self.images)) if images is None else self._end(images)
        return self.images[:n], self.labels[:n]

    def plan(self, proxies: Iterable[Proxy]) -> None:
        """Take what these proxies will ask for from as few passes as can be."""
        requests = [request for proxy in proxies for request in proxy.requests(self)]
        self._planned.update((request, None) for request in requests if 0 < request.stop <= len(self.images))

    def weight_gradients(
        self,
        function: Function,
        norm: NormMode,
        stop: int | None = None,
        start: int = 0,
        *,
        image_weights: tuple[float, ...] | None = None,
        tensors: int | None = None,
    ) -> dict[str, Tensor]:
        """Gradient by parameter name of the sum, over the images ``start`` to ``stop``, of all logits or of the losses.

        The loss is the cross-entropy. Parameters that the function does not reach are left out. ``norm`` is what batch
        norms use: their running statistics, or those of these images. Only with running statistics is this the sum of
        the single images' gradients.

        :param image_weights: a factor for each image of the sum. :param tensors: only the gradients of that many of the
            first parameters that require one, which is cheaper.
        """
        end = self._end(stop)
        if not 0 <= start < end:
            raise ValueError(f"a sum over the images up to {end} begins below it, got {start}")
        if image_weights is not None and len(image_weights) != end - start:
            raise ValueError(f"expected a weight for each of {end - start} images, got {len(image_weights)}")
        request = Request("weight_gradients", norm, end, start, function, image_weights=image_weights, tensors=tensors)
        found: dict[str, Tensor] = self._get(request)
        return found

    def input_gradients(self, function: Function, norm: NormMode, stop: int | None = None) -> Tensor:
        """``(N, C, H, W)``: the gradient, by each of the first images, of the same sum.

        With running statistics in the batch norms that is each image's own gradient.
        """
        found: Tensor = self._get(Request("input_gradients", norm, self._end(stop), 0, function))
        return found

    def gradient_change(self, function: Function, norm: NormMode, step: float, stop: int | None = None) -> Tensor:
        """``(N, C, H, W)``: by how much :meth:`input_gradients` differ a step along their sign away from the image.

        :param step: its length (L2) for each image, in pixel units.
        """
        found: Tensor = self._get(Request("gradient_change", norm, self._end(stop), 0, function, step))
        return found

    def activation_agreement(self, norm: NormMode, stop: int | None = None) -> Tensor:
        """``(N, N)``, float64: of how many ReLU inputs two of the first images have the same sign (zero is negative).

        Summed over all calls of ``nn.ReLU`` and ``nn.ReLU6`` modules.
        """
        found: Tensor = self._get(Request("activation_agreement", norm, self._end(stop)))
        return found

    def output_saliency(self, norm: NormMode, stop: int | None = None) -> dict[str, Tensor]:
        """``(N, channels)`` by name of convolution or linear layer: the sum over pixels of output times its gradient.

        The gradient is that of the cross-entropy, summed over images. The calls of one layer add up.
        """
        found: dict[str, Tensor] = self._get(Request("output_saliency", norm, self._end(stop)))
        return found

    def _end(self, stop: int | None) -> int:
        n = len(self.images) if stop is None else stop
        if not 0 < n <= len(self.images):
            raise ValueError(f"the probe holds {len(self.images)} images, got a request for {n}")
        return n

    def _get(self, request: Request) -> Any:
        if request not in self._found:
            together = dict.fromkeys(
                [request, *(each for each in self._planned if each not in self._found and each.shares_with(request))]
            )
            self._found.update(run_requests(self.network, self.images, self.labels, list(together)))
        found = self._found[request]
        if isinstance(found, ProxyError):
            raise ProxyError(str(found))
        return found


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of the convolutions and linear layers of ``network``, by parameter name."""
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
