"""The conformance suite of proxies."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from nas.testing.expectations import during, expect, expect_close, expect_equal
from nas.testing.networks import (
    IMAGES,
    NETWORKS,
    UNUSUAL,
    WRITTEN_TWICE,
    batch,
    hooked_network,
    layers,
    mixed,
    plain_cnn,
)
from proxies import get_network_proxy
from proxies.base import Cost, Direction, Probe, Proxy, ProxyError

Make = Callable[[], Proxy]
Build = Callable[[], nn.Module]

OTHERS = ("robust", "snip", "synflow", "zen")  # registered proxies that treat the network in very different ways
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def check_proxy(make: Make, networks: Mapping[str, Build] = NETWORKS) -> None:
    """Run all checks of this module.

    :param make: makes a new object of the proxy: its class, or a function that also passes options.
    :param networks: by name for messages, functions that build classifiers for which the proxy has a score. A
        classifier takes float64 images ``(N, 3, 8, 8)`` and has at least 3 classes and 2 convolutions or linear layers.
    :raises AssertionError: the proxy breaks its contract (:class:`proxies.base.Proxy`); the message says how.
    """
    check_description(make)
    for check in NETWORK_CHECKS:
        for name, build in networks.items():
            with during(check, f"network '{name}'"):
                check(make, build)
    for name, build in UNUSUAL.items():
        with during(check_leaves_no_trace, f"network '{name}'"):
            check_leaves_no_trace(make, build)
    with during(check_hooks_do_not_matter, "network 'hooked'"):
        check_hooks_do_not_matter(make)
    makes = {"the proxy itself": make, **{name: _by_name(name) for name in OTHERS}}
    for name, build in networks.items():
        with during(check_order_does_not_matter, f"network '{name}'"):
            check_order_does_not_matter(makes, build)
    for name, ways in WRITTEN_TWICE.items():
        with during(check_writing_does_not_matter, f"network '{name}'"):
            check_writing_does_not_matter(make, *ways)


def check_description(make: Make) -> None:
    """The proxy has a name, and a valid direction, cost and number of images."""
    proxy = make()
    expect(isinstance(proxy.name, str) and bool(proxy.name), f"name must be a text, got {proxy.name!r}")
    for name, known in (("direction", get_args(Direction)), ("cost", get_args(Cost))):
        expect(getattr(proxy, name) in known, f"{name} must be one of {known}, got {getattr(proxy, name)!r}")
    needed = proxy.images_needed()
    expect(type(needed) is int and needed >= 0, f"images_needed() must be a whole number from 0 on, got {needed!r}")


def check_repeatable(make: Make, build: Build) -> None:
    """The score is a finite float, and is the same when computed again, on the same probe or on another."""
    proxy, network = make(), build()
    probe = _probe(proxy, network)
    score = _score(proxy, probe)
    expect_close(_score(proxy, probe), score, "the score on the same probe")
    expect_close(_score(proxy, _probe(proxy, network)), score, "the score on another probe of the same network")


def check_modes_and_seeds_do_not_matter(make: Make, build: Build) -> None:
    """The score depends neither on the network's mode, nor on whether gradients are enabled, nor on global seeds."""
    proxy, network = make(), build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        in_training = _score(proxy, _probe(proxy, network.train()))
        torch.manual_seed(6)
        with torch.no_grad():
            in_eval = _score(proxy, _probe(proxy, network.eval()))
    expect_close(in_eval, in_training, "the score in eval mode, without gradients, with another global seed")


def check_network_built_on_first_use(make: Make, build: Build) -> None:
    """A probe given a function builds the network only when a score is computed; the score is the same."""
    built: list[nn.Module] = []

    def counted() -> nn.Module:
        built.append(build())
        return built[-1]

    proxy = make()
    probe = Probe(counted, *_batch_of(proxy))
    probe.plan([])
    expect_equal(len(built), 0, "networks built before a score is asked for")
    expect_close(_score(proxy, probe), _score(proxy, _probe(proxy, build())), "the score of a network built later")


def check_leaves_no_trace(make: Make, build: Build) -> None:
    """A network that is partly frozen and partly in training mode is left unchanged, and so are all global states."""
    outcome_of(make(), mixed(build()))


def check_weights_that_are_not_finite(make: Make, build: Build) -> None:
    """Weights that are not finite give a :class:`~proxies.base.ProxyError` that says what is expected.

    A proxy that does not depend on the values of the weights gives the same score as with finite weights.
    """
    for value in (math.nan, -math.inf):
        network = mixed(build())
        for layer in layers(network)[-2:]:
            layer.weight.data.view(-1)[::3] = value
        outcome = outcome_of(make(), network)
        if isinstance(outcome, float):
            expect_equal(outcome, outcome_of(make(), mixed(build())), f"the score with {value} among the weights")
        else:
            expect("expected" in str(outcome), f"an error must say what is expected, got {str(outcome)!r}")


def check_everything_frozen(make: Make, build: Build) -> None:
    """A network without trainable parameters gives a score or a ProxyError, and stays frozen."""
    outcome_of(make(), build().requires_grad_(False))


def check_an_error_leaves_no_trace(make: Make, build: Build) -> None:
    """If a network raises at the end of its forward pass, it is left unchanged and its error is passed on."""
    network, proxy = Broken(build()), make()
    images, labels = _batch_of(proxy)
    before = trace(network, images, labels)
    try:
        proxy.score(Probe(network, images, labels))
    except Exception as error:
        own = isinstance(error, RuntimeError) and "out of order" in str(error)
        expect(own, f"the network's own error is hidden by: {error}")
    else:
        expect(proxy.cost == "count", "the network raised an error, but the proxy gave a score")
    check_same(before, trace(network, images, labels))


def check_images_needed(make: Make, build: Build) -> None:
    """``images_needed()`` images are enough for a score or a ProxyError; with fewer, ``score`` raises a ValueError."""
    needed = make().images_needed()
    outcome_of(make(), build(), max(needed, 1))
    if needed < 2:
        return
    probe = Probe(build(), *batch(needed - 1))
    try:
        score = make().score(probe)
    except ValueError:
        return
    raise AssertionError(f"images_needed() is {needed}, but {needed - 1} images gave the score {score}")


def check_order_does_not_matter(makes: Mapping[str, Make], build: Build) -> None:
    """Proxies that share a probe have the same scores in any order, with and without :meth:`Probe.plan`."""
    network = build()
    proxies = {name: make() for name, make in makes.items()}
    images = max(IMAGES, *(proxy.images_needed() for proxy in proxies.values()))
    one, other, planned = (Probe(network, *batch(images)) for _ in range(3))
    forwards = {name: _score(proxy, one) for name, proxy in proxies.items()}
    planned.plan(proxies.values())
    for name in reversed(proxies):
        expect_close(_score(proxies[name], other), forwards[name], f"the score of {name} in the reverse order")
        expect_close(_score(proxies[name], planned), forwards[name], f"the score of {name} with planned passes", 1e-6)


def check_hooks_do_not_matter(make: Make) -> None:
    """Hooks that do not change any value do not change the score of a network."""
    plain, hooked = outcome_of(make(), plain_cnn()), outcome_of(make(), hooked_network())
    if isinstance(plain, float) and isinstance(hooked, float):
        expect_close(hooked, plain, "the score of a network with hooks", 1e-6)


def check_writing_does_not_matter(make: Make, build: Build, otherwise: Build) -> None:
    """One function has one score, or none, however a network is written that computes it.

    A network may compute a ReLU once for several operations (the attribute ``readers`` of the module says how many) or
    once for each, and call one module at several places or one for each; it may change tensors in place.
    """
    one, other = outcome_of(make(), build()), outcome_of(make(), otherwise())
    if isinstance(one, float) and isinstance(other, float):
        expect_close(other, one, "the score of the same function, written in another way", 1e-6)
    else:
        expect_equal(type(other), type(one), "the outcome for the same function, written in another way")


#: Each check takes a function that makes the proxy and a function that builds a network.
NETWORK_CHECKS: tuple[Callable[[Make, Build], None], ...] = (
    check_repeatable,
    check_modes_and_seeds_do_not_matter,
    check_network_built_on_first_use,
    check_leaves_no_trace,
    check_weights_that_are_not_finite,
    check_everything_frozen,
    check_an_error_leaves_no_trace,
    check_images_needed,
)


def outcome_of(proxy: Proxy, network: nn.Module, images: int | None = None) -> float | ProxyError:
    """The finite score of the network, or the ProxyError that was raised instead.

    :raises AssertionError: the score is not finite, or computing it has changed something (see :func:`trace`).
    """
    x, labels = _batch_of(proxy) if images is None else batch(images)
    before = trace(network, x, labels)
    outcome: float | ProxyError
    try:
        outcome = _score(proxy, Probe(network, x, labels))
    except ProxyError as error:
        expect(bool(str(error)), "a ProxyError must say why there is no score")
        outcome = error
    check_same(before, trace(network, x, labels))
    return outcome


def trace(network: nn.Module, *tensors: Tensor) -> dict[str, Any]:
    """A record of everything that a proxy could leave changed, each part by its name for messages."""
    modules = dict(network.named_modules(remove_duplicate=False))
    held = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))
    numpy = np.random.get_state(legacy=False)
    return {
        "the modules": {name: id(module) for name, module in modules.items()},
        "the mode of the modules": {name: module.training for name, module in modules.items()},
        "the forward of the modules": {name: module.__dict__.get("forward") for name, module in modules.items()},
        **{
            f"the{kind.replace('_', ' ')}": {name: list(vars(module)[kind]) for name, module in modules.items()}
            for kind in HOOKS
        },
        "the attributes of the modules": {name: _attributes(module) for name, module in modules.items()},
        "the tensors": {name: id(tensor) for name, tensor in held.items()},
        "the values of the tensors": {name: _contents(tensor) for name, tensor in held.items()},
        "the state_dict": {name: _contents(each) for name, each in network.state_dict().items()},
        "requires_grad": {name: tensor.requires_grad for name, tensor in held.items()},
        "grad": {name: _contents(tensor.grad) for name, tensor in held.items()},
        "the hooks of the tensors": {name: list(tensor._backward_hooks or ()) for name, tensor in held.items()},
        "images and labels": [(_contents(each), each.requires_grad, _contents(each.grad)) for each in tensors],
        "the random states": (random.getstate(), repr(numpy), _contents(torch.get_rng_state())),
        "the global flags": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()),
    }


def check_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """:raises AssertionError: two traces differ; the message says what differs, and in which modules or tensors."""
    for what, value in before.items():
        changed = after[what]
        if isinstance(value, dict) and changed != value:
            names = [name for name in {**value, **changed} if value.get(name) != changed.get(name)]
            raise AssertionError(f"the score has changed {what}, of {', '.join(map(repr, names[:5]))}")
        expect(changed == value, f"the score has changed {what}")


class Broken(nn.Module):
    """A classifier that raises a RuntimeError at the end of its forward pass."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        self.network(images)
        raise RuntimeError("out of order")


def _attributes(module: nn.Module) -> list[str]:
    return sorted(name for name, value in vars(module).items() if value is not None)


def _contents(tensor: Tensor | None) -> tuple[torch.dtype, torch.Size, bytes] | None:
    if tensor is None:
        return None
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return tensor.dtype, tensor.shape, flat.view(torch.uint8).numpy().tobytes()


def _score(proxy: Proxy, probe: Probe) -> float:
    score = proxy.score(probe)
    expect(isinstance(score, float) and math.isfinite(score), f"a score must be a finite float, got {score!r}")
    return score


def _batch_of(proxy: Proxy) -> tuple[Tensor, Tensor]:
    return batch(max(IMAGES, proxy.images_needed()))


def _probe(proxy: Proxy, network: nn.Module) -> Probe:
    return Probe(network, *_batch_of(proxy))


def _by_name(name: str) -> Make:
    return lambda: get_network_proxy(name)
