"""The scores of one model of a user, after the model and the batch have been checked together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from proxies.base import Probe, Proxy
from proxies.engine.checks import check_images, check_labels
from proxies.engine.models import unwrapped
from proxies.engine.modes import isolated, norm_mode
from proxies.errors import ProxyError

LACK_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)  # not the model's fault


def scores_of(model: nn.Module, images: Any, labels: Any, proxies: Mapping[str, Proxy]) -> dict[str, float]:
    """The scores by the names of ``proxies``; see :func:`proxies.score`."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {_kind(model)}")
    with isolated():
        probe = Probe(model, images, labels)
        check_images(probe.images)
        for name, proxy in proxies.items():
            if proxy.images_needed() > len(probe.images):
                needed = f"needs at least {proxy.images_needed()} images"
                raise ValueError(f"the proxy {name} {needed}, got {len(probe.images)}")
        if any(proxy.cost != "count" for proxy in proxies.values()):
            logits = _first_logits(probe)
            check_labels(probe.labels, logits.shape[1])
            _check_gradients(logits, model, [name for name, proxy in proxies.items() if proxy.cost == "backward"])
        probe.plan(proxies.values())
        return {name: _score(name, proxy, probe) for name, proxy in proxies.items()}


def _score(name: str, proxy: Proxy, probe: Probe) -> float:
    try:
        return proxy.score(probe)
    except ProxyError as error:
        raise ProxyError(f"{name}: {error}") from error
    except LACK_OF_MEMORY:
        raise
    except Exception as error:
        raise ProxyError(f"{name}: {_failure(probe, error)}") from error


def _first_logits(probe: Probe) -> Tensor:
    """``(1, classes)``: the output for the first image, in eval mode.

    :raises ProxyError: the model raises an error, or changes its input.
    :raises ValueError: the output has another form.
    """
    network = probe.network
    image = probe.images[:1].clone().requires_grad_().clone()  # no leaf, so that it can be changed in place
    try:
        with norm_mode(network, "eval"):
            logits = network(image)
    except LACK_OF_MEMORY:
        raise
    except Exception as error:
        raise ProxyError(_failure(probe, error)) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the network must give logits (N, classes), got {got} for one image; a module around it can select them"
        )
    if image._version:
        raise ProxyError("the model changes its images in place; expected a forward that leaves its input as it is")
    return logits


def _check_gradients(logits: Tensor, model: nn.Module, names: list[str]) -> None:
    """:raises ProxyError: the output has no gradient, or one with respect to the model of which a copy is scored."""
    if names and not logits.requires_grad:
        raise ProxyError(
            f"{names[0]}: the logits have no gradient; expected a forward without torch.no_grad, inference_mode, detach"
        )
    theirs = {id(each): name for name, each in unwrapped(model).named_parameters()}
    waiting, seen = [logits.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [each for each, _ in node.next_functions]
        name = theirs.get(id(getattr(node, "variable", None)))
        if name is not None:
            raise ProxyError(
                f"a copy of the model computes with '{name}' of the model itself, in a hook or a replaced forward;"
                " expected a model whose copies are independent"
            )


def _failure(probe: Probe, error: Exception) -> str:
    """What the model raised, and what its first convolution expects, if that is another number of channels."""
    shape = tuple(probe.images.shape)
    first = next((module for module in probe.network.modules() if isinstance(module, nn.Conv2d)), None)
    channels = ""
    if first is not None and first.in_channels != shape[1]:
        channels = f" with {shape[1]} channels, expected {first.in_channels} for its first convolution"
    reason = " ".join(str(error).split())[:500]
    return f"the model fails on images {shape}{channels}: {type(error).__name__}: {reason}"


def _kind(model: Any) -> str:
    return f"the class {model.__name__}, not an object of it" if isinstance(model, type) else type(model).__name__
