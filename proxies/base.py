"""The contract of a proxy, and the ``Probe`` that it scores: one untrained network and one labelled batch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy.typing as npt
from torch import Tensor, nn

from proxies.engine.batches import as_batch
from proxies.engine.layers import count_macs, layer_weights
from proxies.engine.models import check_model, copied, matched, plain
from proxies.engine.modes import NormMode
from proxies.engine.passes import Function, Request, run_requests
from proxies.errors import ProxyError

if TYPE_CHECKING:
    from proxies.stack import ProbeStack

__all__ = ["Cost", "Direction", "Function", "NormMode", "Probe", "Proxy", "ProxyError", "Request"]

Direction = Literal["maximize", "minimize"]
Cost = Literal["count", "forward", "backward"]

T = TypeVar("T")


class Proxy(ABC):
    """Scores an untrained network.

    ``direction`` says whether higher or lower scores are better. ``cost`` says what a score requires: only counting
    parameters or layers (count), a forward pass, or a backward pass.
    """

    name: ClassVar[str]
    direction: ClassVar[Direction]
    cost: ClassVar[Cost]
    #: Names of the options that say how many of the batch's images a score takes; None stands for a default.
    image_options: ClassVar[tuple[str, ...]] = ()
    least_images: ClassVar[int] = 1
    #: Whether the score may be taken from a stack of networks (:mod:`proxies.stack`): rounding must not change it much.
    stackable: ClassVar[bool] = False

    def with_fewer_images(self, fewer: Callable[[int], int]) -> Proxy:
        """A copy whose options ask for ``fewer(n)`` images where this proxy asks for n, but for ``least_images``."""
        made = copy.copy(self)
        for name in self.image_options:
            if (images := getattr(self, name)) is not None:
                setattr(made, name, max(self.least_images, fewer(images)))
        return made

    def images_needed(self) -> int:
        """How many images the batch must hold for this proxy with its options; 0 if it uses no images.

        A proxy whose option asks for 64 images needs 64. A proxy that by default uses fewer images if the batch is
        smaller needs the least number with which it has a score.
        """
        return 0 if self.cost == "count" else 1

    def requests(self, probe: Probe) -> Iterable[Request]:
        """The requests that :meth:`score` will make to the probe, so that one pass can serve several proxies."""
        return ()

    def of_stack(self, stack: ProbeStack) -> Mapping[Hashable, Sequence[Any]]:
        """What :meth:`Probe.once` shall give for a key, for each network of a stack; see :mod:`proxies.stack`.

        A proxy needs it only if it computes something itself, with other passes than the requests are for.
        """
        return {}

    @abstractmethod
    def score(self, probe: Probe) -> float:
        """The score, a finite number. The network, its buffers, modes and hooks, and all random states are unchanged.

        :raises ProxyError: this network has no finite score.
        """


class Probe:
    """One untrained network and one labelled batch. Each quantity is computed when it is first requested, then cached.

    Each quantity needs passes of its own, unless :meth:`plan` has announced further quantities. Then one pass computes
    all announced quantities that can share it.

    :param network: the classifier, ``(N, C, H, W)`` -> ``(N, classes)``, of which a copy is scored; or a function that
        builds it, which saves the copy: each call must make a new object, the same network with the same weights.
    :param images: ``(N, C, H, W)`` in [0, 1], a tensor or an array. They are moved to a given network's device and
        precision; those for a function must already fit the network that it builds.
    :param labels: ``(N,)``, whole numbers.
    :param counted: ``params`` and ``macs``, if they are already known; otherwise they are counted on the network.
    :raises ValueError: images or labels have other shapes, or the batch is empty.
    :raises ProxyError: the network cannot be scored (:func:`proxies.engine.models.check_model`).
    """

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module],
        images: Tensor | npt.ArrayLike,
        labels: Tensor | npt.ArrayLike,
        *,
        counted: Mapping[str, int] | None = None,
    ):
        images, labels = as_batch(images, labels)
        if labels.ndim == 0 or images.ndim != 4 or len(images) != len(labels) or len(images) == 0:
            raise ValueError(
                f"expected images (N, C, H, W) and labels (N,) with N > 0, got {tuple(images.shape)} and"
                f" {tuple(labels.shape)}"
            )
        if isinstance(network, nn.Module):
            check_model(network)
            images = matched(images, network)
        self._network = network
        self.images = images
        self.labels = labels.to(images.device)
        self._counted = dict(counted or {})
        self._planned: dict[Request, None] = {}  # used as an ordered set
        self._found: dict[Request, Any] = {}
        self._made: dict[Hashable, Any] = {}

    @cached_property
    def network(self) -> nn.Module:
        """The network that is scored, which a proxy must leave as it is; one that has to change it uses a :meth:`copy`.

        It has plain weights (:func:`proxies.engine.models.plain`).
        """
        return self.copy()

    def copy(self) -> nn.Module:
        """A fresh network, equal to :attr:`network`, which the caller may change.

        :raises ProxyError: a given network cannot be copied, or has layers without weights of their own.
        """
        if isinstance(self._network, nn.Module):
            return plain(copied(self._network))
        built = self._network()  # takes half the time of a deep copy
        check_model(built)
        return plain(built)

    @cached_property
    def layer_weights(self) -> dict[str, Tensor]:
        """The weights of the convolutions and linear layers, by parameter name."""
        return layer_weights(self.network)

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters that require a gradient, by name."""
        return {name: each for name, each in self.network.named_parameters() if each.requires_grad}

    @cached_property
    def params(self) -> int:
        """Number of trainable parameters."""
        if "params" in self._counted:
            return self._counted["params"]
        model = self._network if isinstance(self._network, nn.Module) else self.network
        return sum(each.numel() for each in model.parameters() if each.requires_grad)

    @cached_property
    def macs(self) -> int:
        """Number of multiply-accumulates of the convolutions and linear layers for one image."""
        if "macs" in self._counted:
            return self._counted["macs"]
        image = self.images[:1]
        try:
            return count_macs(self.copy().to("meta"), image.to("meta"))  # computes shapes only
        except Exception:  # the model uses a tensor that is no buffer, or looks at values
            return count_macs(self.network, image)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result of ``make()``, which is called only at the first request for ``key``; then it is cached.

        It is meant for results that several proxies share and that are not quantities of this class.
        """
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def count(self, images: int | None, default: int) -> int:
        """The number of images to use: ``images``, or if that is None, ``default`` or all images of a smaller batch.

        :raises ValueError: the batch holds fewer than ``images``, or ``images`` is below 1.
        """
        return min(default, len(self.images)) if images is None else self._end(images)

    def first(self, images: int | None, default: int) -> tuple[Tensor, Tensor]:
        """The first images of the batch and their labels; :meth:`count` gives their number."""
        n = self.count(images, default)
        return self.images[:n], self.labels[:n]

    def plan(self, proxies: Iterable[Proxy]) -> None:
        """Announce the requests of these proxies, so that as few passes as possible compute them."""
        requests = [request for proxy in proxies for request in proxy.requests(self)]
        self._planned.update((request, None) for request in requests if 0 < request.stop <= len(self.images))

    def weight_gradients(
        self,
        function: Function,
        norm: NormMode,
        stop: int | None = None,
        start: int = 0,
        *,
        tensors: int | None = None,
    ) -> dict[str, Tensor]:
        """By parameter name, the gradient of the summed logits or losses of the images ``start`` to ``stop - 1``.

        The loss is the cross-entropy; logits are summed over all classes. Parameters that the sum does not depend on
        are left out. ``norm`` selects the statistics that batch norms use: the running statistics (eval), or the
        batch statistics of these images (train). Only with running statistics does the gradient equal the sum of the
        gradients of the single images.

        :param tensors: return the gradients only of the first ``tensors`` parameters that require a gradient, which
            takes less time.
        :raises ValueError: the batch does not hold these images.
        :raises ProxyError: no parameter requires a gradient, or batch statistics of a single image are asked for
            (:func:`~proxies.engine.checks.check_batch`).
        """
        end = self._end(stop)
        if not 0 <= start < end:
            raise ValueError(f"start must be at least 0 and below {end}, where the sum ends, got {start}")
        request = Request("weight_gradients", norm, end, start, function, tensors=tensors)
        found: dict[str, Tensor] = self._get(request)
        return found

    def input_gradients(self, function: Function, norm: NormMode, stop: int | None = None) -> Tensor:
        """``(N, C, H, W)``: the gradient with respect to each of the first ``stop`` images.

        As in :meth:`weight_gradients`, it is that of the logits or losses, summed over these images. If batch norms use
        their running statistics, images do not influence one another: the gradient for an image is then the gradient of
        its own logits or loss.

        :raises ProxyError: with batch statistics, there is a single image, or the gradient of the summed logits is
            rounding (:func:`~proxies.engine.checks.check_not_rounding`).
        """
        found: Tensor = self._get(Request("input_gradients", norm, self._end(stop), 0, function))
        return found

    def gradient_change(self, function: Function, norm: NormMode, step: float, stop: int | None = None) -> Tensor:
        """``(N, C, H, W)``: the change of :meth:`input_gradients` when each image moves one step along their sign.

        :param step: L2 length of the step of each image, in pixel units.
        """
        found: Tensor = self._get(Request("gradient_change", norm, self._end(stop), 0, function, step))
        return found

    def activation_agreement(self, norm: NormMode, stop: int | None = None, *, once: bool = False) -> Tensor:
        """``(N, N)``, float64: for each pair of the first ``stop`` images, the number of ReLU units where they agree.

        Two images agree at a unit if its input is positive for both of them or for neither. The numbers are summed over
        all calls of ``nn.ReLU`` and ``nn.ReLU6`` modules. A module that is called once for several operations says how
        many by an attribute ``readers``; its units count so many times.

        :param once: count the units of each call once, whatever ``readers`` is.
        """
        found: Tensor = self._get(
            Request("activation_agreement_once" if once else "activation_agreement", norm, self._end(stop))
        )
        return found

    def output_saliency(self, norm: NormMode, stop: int | None = None) -> dict[str, Tensor]:
        """``(N, channels)`` by name of convolution or linear layer: output times its gradient, summed over pixels.

        The gradient is that of the cross-entropy, summed over images, with respect to the output. If a layer is called
        several times, the values of its calls are added.
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
