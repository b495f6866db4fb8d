"""The probes of several networks that are computed as one.

A :class:`ProbeStack` makes a :class:`~proxies.base.Probe` for each network of a stack. What their proxies have
announced is computed once for all of them, by passes through the stack; anything else is computed on a probe's own
network. A quantity differs from that of the network alone by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from proxies.base import Probe, Proxy
from proxies.engine.passes import NetworkStack, Quantity, Request, run_requests

T = TypeVar("T")

SERVED: tuple[Quantity, ...] = ("weight_gradients", "input_gradients", "gradient_change", "activation_agreement")


class ProbeStack:
    """K probes. A proxy may call their methods in any order.

    :param network: the stack, in eval mode, on the device of the images.
    :param networks: for each of its networks, a function that builds it alone, for proxies that the stack cannot serve.
    :param images: ``(N, C, H, W)``. :param labels: ``(N,)``.
    :param counted: for each network, ``params`` and ``macs``.
    """

    def __init__(
        self,
        network: NetworkStack,
        networks: Sequence[Callable[[], nn.Module]],
        images: Tensor,
        labels: Tensor,
        counted: Sequence[Mapping[str, int]],
    ):
        self.network = network
        self.images = images.repeat_interleave(network.width, 0)
        self.labels = labels.repeat_interleave(network.width)
        self.probes = [
            _StackedProbe(self, k, build, images, labels, known)
            for k, (build, known) in enumerate(zip(networks, counted, strict=True))
        ]
        self._proxies: list[Proxy] = []

    def plan(self, proxies: Iterable[Proxy]) -> None:
        """As :meth:`proxies.base.Probe.plan`, for all probes."""
        self._proxies = list(proxies)
        for probe in self.probes:
            probe.plan(self._proxies)

    @cached_property
    def parameters(self) -> list[dict[str, Tensor]]:
        """For each network, its parameters by name."""
        return self.network.split(dict(cast(nn.Module, self.network).named_parameters()))

    @cached_property
    def made(self) -> list[dict[Hashable, Any]]:
        """For each network, what :meth:`proxies.base.Proxy.of_stack` gives."""
        found = [proxy.of_stack(self) for proxy in self._proxies]
        return [{key: values[k] for each in found for key, values in each.items()} for k in range(self.network.width)]

    def serve(self, request: Request) -> None:
        """Compute all announced requests that one sweep can serve together with this one, for all networks."""
        wanted: dict[Request, list[list[Request]]] = {}  # for each network, the requests that are equal but for tensors
        for k, probe in enumerate(self.probes):
            for own in probe.planned:
                if own.quantity in SERVED and own.shares_with(request):
                    wanted.setdefault(replace(own, tensors=None), [[] for _ in self.probes])[k].append(own)
        requests = [replace(shared, tensors=self._tensors(own)) for shared, own in wanted.items()]
        values = run_requests(cast(nn.Module, self.network), self.images, self.labels, requests, self.network.width)
        for asked, own_requests in zip(requests, wanted.values(), strict=True):
            value = values[asked]
            for k, (probe, alike) in enumerate(zip(self.probes, own_requests, strict=True)):
                for own in alike:
                    probe.take(own, value[k] if isinstance(value, list) else value)

    def _tensors(self, requests: Sequence[Sequence[Request]]) -> int | None:
        counts = [[each.tensors for each in own] for own in requests]
        if any(not own or None in own for own in counts):
            return None
        return self.network.reach([max(cast(list[int], own)) for own in counts])


class _StackedProbe(Probe):
    """The probe of the k-th network of a stack."""

    def __init__(
        self,
        stack: ProbeStack,
        k: int,
        build: Callable[[], nn.Module],
        images: Tensor,
        labels: Tensor,
        counted: Mapping[str, int],
    ):
        super().__init__(build, images, labels, counted=counted)
        self._stack, self._k = stack, k

    @property
    def planned(self) -> Iterable[Request]:
        """The announced requests that have no value yet."""
        return [each for each in self._planned if each not in self._found]

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        return {name: each for name, each in self._stack.parameters[self._k].items() if each.requires_grad}

    @cached_property
    def layer_weights(self) -> dict[str, Tensor]:
        return {name: each for name, each in self._stack.parameters[self._k].items() if each.ndim > 1}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        made = self._stack.made[self._k]
        return made[key] if key in made else super().once(key, make)

    def take(self, request: Request, value: Any) -> None:
        """Store the value of a request, or the ProxyError that says why there is none."""
        if request.tensors is not None and isinstance(value, dict):
            first = list(self.parameters)[: request.tensors]
            value = {name: value[name] for name in first if name in value}
        self._found[request] = value

    def _get(self, request: Request) -> Any:
        if request not in self._found and request in self._planned and request.quantity in SERVED:
            self._stack.serve(request)
        return super()._get(request)
