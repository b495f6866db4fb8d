"""The second derivative of the loss along two directions of the weights, by a forward pass.

The network is computed with the weights ``W + a W + b V``. In place of each tensor x inside it there are four: its
value, its derivatives with respect to a and to b, and its second derivative with respect to both, at a = b = 0
(hyper-dual numbers: Fike and Alonso, AIAA 2011). They are the four parts of one batch, so linear operations need no
change; other modules follow these rules:

    convolution   W x,  W (x + x_a),  W x_b + V x,  W (x_b + x_ab) + V x_a
    ReLU          each part where x is positive
    max pooling   each part at the pixel of the greatest x
    batch norm    differentiated twice, the mean and the variance included

The second derivative of the loss with respect to the logits then gives W (H V) exactly, H being the Hessian. This works
only for a network that declares, by ``linear_between = True``, that everything it does besides these modules is linear:
adding, concatenating, averaging, slicing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils.parametrize import is_parametrized

PARTS = 4
Rule = Callable[[Tensor], Tensor]


def mixed_derivative(
    network: nn.Module, directions: Mapping[Tensor, Tensor], images: Tensor, labels: Tensor
) -> Tensor | None:
    """``d^2/da db`` of the mean cross-entropy at the weights ``(1 + a) W + b V``.

    :param directions: V by weight W; other weights do not change with a and b.
    :return: ``()``; None for a network that this method does not work for.
    """
    rules = _rules(network, directions)
    if rules is None:
        return None
    with torch.no_grad(), _in_place_of(rules):
        z, z_a, z_b, z_ab = network(torch.cat([images, images.new_zeros(3 * len(images), *images.shape[1:])])).chunk(4)
    p = z.softmax(1)
    slope = p - F.one_hot(labels, z.shape[1])
    curved = (p * z_a * z_b).sum(1) - (p * z_a).sum(1) * (p * z_b).sum(1)
    found: Tensor = ((slope * z_ab).sum(1) + curved).mean()
    return found


def is_taken(network: nn.Module) -> bool:
    """Whether :func:`mixed_derivative` works for this network, with the hooks that it has now."""
    return _rules(network, {}) is not None


def _rules(network: nn.Module, directions: Mapping[Tensor, Tensor]) -> dict[nn.Module, Rule] | None:
    """The function of the four parts that replaces each module; None where a module has no rule, or has a hook."""
    if not getattr(network, "linear_between", False) or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return None
    rules: dict[nn.Module, Rule] = {}
    for module in network.modules():
        hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
        if "forward" in module.__dict__ or any(hooks) or is_parametrized(module):
            return None
        if isinstance(module, nn.Conv2d | nn.Linear) and _is_product(module):
            rules[module] = partial(_product, module, directions.get(module.weight))
        elif type(module) is nn.BatchNorm2d and module.training:
            rules[module] = partial(_normalised, module)
        elif isinstance(module, nn.ReLU) and type(module).forward is nn.ReLU.forward and not module.inplace:
            rules[module] = _rectified
        elif type(module) is nn.MaxPool2d and not module.return_indices:
            rules[module] = partial(_pooled, module)
        elif not _is_linear(module):
            return None
    return rules


def _is_product(module: nn.Conv2d | nn.Linear) -> bool:
    """Whether it computes what torch's class computes; a subclass declares that by ``computes_conv2d = True``."""
    return type(module) in (nn.Conv2d, nn.Linear) or getattr(module, "computes_conv2d", False)


def _is_linear(module: nn.Module) -> bool:
    """Whether nothing contradicts that the module is linear: it has no parameters and is of no class that is not."""
    if isinstance(module, _DropoutNd):
        return not module.training
    known = nn.Linear, _ConvNd, _NormBase, nn.ReLU, nn.MaxPool2d
    return not isinstance(module, known) and not list(module.parameters(recurse=False))


@contextmanager
def _in_place_of(rules: Mapping[nn.Module, Rule]) -> Iterator[None]:
    """Inside, each module computes its rule in place of its own ``forward``."""
    try:
        for module, rule in rules.items():
            module.forward = rule
        yield
    finally:
        for module in rules:
            module.__dict__.pop("forward", None)


def _product(module: nn.Conv2d | nn.Linear, direction: Tensor | None, parts: Tensor) -> Tensor:
    times: Callable[[Tensor, Tensor], Tensor] = partial(_times, module)
    if direction is None:
        out = times(parts, module.weight)
    else:
        x, x_a, x_b, x_ab = parts.chunk(PARTS)
        out = times(torch.cat([x, x + x_a, x_b, x_b + x_ab]), module.weight)
        out[len(out) // 2 :] += times(parts[: len(parts) // 2], direction)
    if module.bias is not None:
        out[: len(out) // PARTS] += module.bias if isinstance(module, nn.Linear) else module.bias.view(-1, 1, 1)
    return out


def _times(module: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor) -> Tensor:
    """The module's output without its bias."""
    if isinstance(module, nn.Linear):
        return F.linear(x, weight)
    if module.kernel_size == module.stride == (1, 1) and module.groups == 1 and module.padding == (0, 0):
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)  # faster on a CPU
    out: Tensor = module._conv_forward(x, weight, None)
    return out


def _normalised(norm: nn.BatchNorm2d, parts: Tensor) -> Tensor:
    n, c, h, w = parts.shape
    rows = parts.permute(0, 2, 3, 1).reshape(PARTS, -1, c)  # a row for each pixel; a view in channels_last
    centred = rows - rows.mean(1, keepdim=True)
    x, x_a, x_b, _ = centred
    v, v_a, v_b, v_ab = (2 * (centred * x).mean(1)).unbind()
    v, v_ab = v / 2 + norm.eps, v_ab + 2 * (x_a * x_b).mean(0)
    r = v.rsqrt()  # of which the other three are the derivatives
    r_a, r_b = -r * v_a / (2 * v), -r * v_b / (2 * v)
    r_ab = r * (3 * v_a * v_b / (4 * v * v) - v_ab / (2 * v))
    if norm.affine:
        r, r_a, r_b, r_ab = (each * norm.weight for each in (r, r_a, r_b, r_ab))
    out = centred * r
    for part, terms in ((1, [(x, r_a)]), (2, [(x, r_b)]), (3, [(x_a, r_b), (x_b, r_a), (x, r_ab)])):
        for term in terms:
            out[part].addcmul_(*term)
    if norm.affine:
        out[0] += norm.bias
    image: Tensor = out.view(n, h, w, c).permute(0, 3, 1, 2)
    return image


def _rectified(parts: Tensor) -> Tensor:
    split = parts.view(PARTS, -1, *parts.shape[1:])
    active: Tensor = (split * (split[0] > 0)).flatten(0, 1)
    return active


def _pooled(module: nn.MaxPool2d, parts: Tensor) -> Tensor:
    x = parts.chunk(PARTS)[0]
    window: Any = module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode
    out, at = F.max_pool2d_with_indices(x, *window)
    read = parts.flatten(2).gather(2, at.flatten(2).repeat(PARTS, 1, 1))
    return read.view(len(parts), *out.shape[1:])
