"""``synflow``: log sum |W dR/dW| of the network with positive weights, without data.

Tanaka, Kunin, Yamins, Ganguli: "Pruning neural networks without any data by iteratively conserving synaptic flow",
NeurIPS 2020; as a proxy in Abdelfattah et al., ICLR 2021. Every parameter is replaced by its absolute value, batch
norms are bypassed, the input is one image of ones, R is the sum of the logits; weights of convolutions and linear
layers only. The sum is computed in float64, and the score is its logarithm, since values reach 1e46.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxies.base import Probe, Proxy, ProxyError
from proxies.engine.checks import log_or_error
from proxies.engine.drawn_weights import buffers_of, called_with, parameters_of
from proxies.engine.layers import layer_weights
from proxies.engine.modes import norm_mode

if TYPE_CHECKING:
    from proxies.stack import ProbeStack


class Synflow(Proxy):
    """Higher is better."""

    name = "synflow"
    direction = "maximize"
    cost = "backward"
    stackable = True

    def score(self, probe: Probe) -> float:
        return log_or_error(probe.once(Synflow, lambda: self._flow(probe)), "the synaptic flow")

    def of_stack(self, stack: ProbeStack) -> dict[Hashable, list[float]]:
        network = cast(nn.Module, stack.network)
        parameters = positive_parameters(network)
        with norm_mode(network, "eval"), norms_bypassed(network):
            ones = torch.ones_like(stack.images[: stack.network.width], dtype=torch.float64)
            products = flow_products(network, parameters, ones)
        return {Synflow: [sum_of(own.values()) for own in stack.network.split(products)]}

    def _flow(self, probe: Probe) -> float:
        parameters = shared_parameters(probe)
        with norm_mode(probe.network, "eval"), norms_bypassed(probe.network):
            return flow(probe, parameters)


def shared_parameters(probe: Probe) -> dict[str, Tensor]:
    """The absolute values of all parameters, those of batch norms included; computed once for each probe."""
    return probe.once("positive parameters", lambda: positive_parameters(probe.network))


def flow(probe: Probe, parameters: dict[str, Tensor], *, difference: bool = False) -> float:
    """The sum of |W dR/dW| with these parameters, in float64.

    :param difference: let R be the difference between the logits of the image of ones and those of an image of zeros
        in the same batch.
    """
    x = torch.ones_like(probe.images[:1], dtype=torch.float64)
    x = torch.cat([x, torch.zeros_like(x)]) if difference else x
    return sum_of(flow_products(probe.network, parameters, x, ones=1).values())


def flow_products(
    network: nn.Module, parameters: dict[str, Tensor], x: Tensor, *, ones: int | None = None
) -> dict[str, Tensor]:
    """By name, W dR/dW of the weights of convolutions and linear layers that R depends on.

    :param ones: R is the sum of the logits of the first ``ones`` images, less those of the others; None: of all.
    """
    named: dict[Tensor, str] = {}
    for name in layer_weights(network):
        if parameters[name].requires_grad:
            named.setdefault(parameters[name], name)
    if not named:
        raise ProxyError("no weight of a convolution or linear layer requires a gradient")
    with depthwise_products(network), torch.enable_grad():
        logits = called_with(network, present(network, {**parameters, **double_buffers(network)}), x)
        r = logits[:ones].sum() - (0 if ones is None else logits[ones:].sum())
        gradients = torch.autograd.grad(r, list(named), allow_unused=True)
    return {
        name: weight.detach() * gradient
        for (weight, name), gradient in zip(named.items(), gradients, strict=True)
        if gradient is not None
    }


def sum_of(products: Iterable[Tensor]) -> float:
    """The sum of the absolute values."""
    return sum(each.abs().sum().item() for each in products)


def positive_parameters(network: nn.Module) -> dict[str, Tensor]:
    """The absolute values of the parameters in float64, by name; a tensor that two modules share remains one tensor."""
    made: dict[Tensor, Tensor] = {}
    named = parameters_of(network)
    for parameter in named.values():
        if parameter not in made:
            made[parameter] = parameter.detach().double().abs().requires_grad_(parameter.requires_grad)
    return {name: made[parameter] for name, parameter in named.items()}


def double_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers by name, in float64 unless they are integers."""
    return {
        name: buffer.to(torch.float64 if buffer.is_floating_point() else buffer.dtype, copy=True)
        for name, buffer in buffers_of(network).items()
    }


def present(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of ``tensors`` whose name is that of a parameter or buffer which the network has at this moment."""
    names = {*parameters_of(network), *buffers_of(network)}
    return {name: tensor for name, tensor in tensors.items() if name in names}


@contextmanager
def norms_bypassed(network: nn.Module) -> Iterator[None]:
    """Inside, the batch norms of ``network`` return their input unchanged."""
    with _replaced(network, lambda module: nn.Identity() if isinstance(module, _BatchNorm) else None):
        yield


@contextmanager
def depthwise_products(network: nn.Module) -> Iterator[None]:
    """Inside, depthwise convolutions are computed in a way that is fast in float64."""
    with _replaced(
        network,
        lambda module: (
            DepthwiseProduct(module) if isinstance(module, nn.Conv2d) and DepthwiseProduct.fits(module) else None
        ),
    ):
        yield


@contextmanager
def _replaced(network: nn.Module, make: Callable[[nn.Module], nn.Module | None]) -> Iterator[None]:
    """Inside, modules for which ``make`` returns another one are replaced by it."""
    places = [
        (module, name, child)
        for module in network.modules()
        for name, child in module._modules.items()  # includes a module that is registered twice
        if child is not None
    ]
    made: dict[nn.Module, nn.Module | None] = {}
    try:
        for module, name, child in places:
            if child not in made:
                made[child] = make(child)
            if (other := made[child]) is not None:
                module._modules[name] = other
        yield
    finally:
        for module, name, child in places:
            module._modules[name] = child


class DepthwiseProduct(nn.Conv2d):
    """A depthwise convolution as one matrix product a channel: in float64 torch's own goes channel by channel."""

    def __init__(self, conv: nn.Conv2d):
        with torch.device("meta"):
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,  # type: ignore[arg-type]
                conv.stride,  # type: ignore[arg-type]
                conv.padding,  # type: ignore[arg-type]
                conv.dilation,  # type: ignore[arg-type]
                groups=conv.groups,
                bias=False,
            )
        self.weight = conv.weight
        self.train(conv.training)

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether ``conv`` is a depthwise convolution on a CPU, without bias, hooks or a ``forward`` of its own."""
        hooks = conv._forward_hooks, conv._forward_pre_hooks, conv._backward_hooks, conv._backward_pre_hooks
        if type(conv) is not nn.Conv2d or "forward" in vars(conv) or any(hooks):
            return False
        weight = conv._parameters.get("weight")  # None where the weight is computed from other tensors
        plain = weight is not None and weight.device.type == "cpu" and conv.bias is None
        taken = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        return plain and taken and conv.in_channels == conv.out_channels == conv.groups > 1

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        assert not isinstance(self.padding, str)
        size = [
            (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for length, padding, dilation, kernel, stride in zip(
                (h, w), self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]
        columns = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)  # N Ck L
        products = self.weight.view(c, 1, -1) @ columns.view(n, c, -1, columns.shape[-1])  # N C 1 L
        return products.view(n, c, *size)
