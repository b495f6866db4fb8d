"""The conformance suite of proxies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import get_args

import torch
from torch import Tensor, nn

from nas.testing.expectations import during, expect, expect_close, expect_equal
from nas.testing.networks import (
    EQUAL,
    IMAGES,
    NETWORKS,
    UNUSUAL,
    WRITTEN_TWICE,
    batch,
    layers,
    mixed,
    plain_cnn,
)
from nas.testing.traces import unchanged
from proxies import get_network_proxy
from proxies.base import Cost, Direction, Probe, Proxy, ProxyError

Make = Callable[[], Proxy]
Build = Callable[[], nn.Module]

OTHERS = ("robust", "snip", "synflow", "zen")  # registered proxies that treat the network in very different ways


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
    for check in TRACE_CHECKS:
        for name, build in UNUSUAL.items():
            with during(check, f"network '{name}'"):
                check(make, build)
    for name, build in EQUAL.items():
        with during(check_same_as_plain, f"network '{name}'"):
            check_same_as_plain(make, build)
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
    probe = Probe(network, images, labels)
    with unchanged(network, probe, images, labels):
        try:
            proxy.score(probe)
        except Exception as error:
            own = isinstance(error, RuntimeError) and "out of order" in str(error)
            expect(own, f"the network's own error is hidden by: {error}")
        else:
            expect(proxy.cost == "count", "the network raised an error, but the proxy gave a score")


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


def check_same_as_plain(make: Make, build: Build) -> None:
    """Hooks that do not change any value, and weights that are computed, do not change the score of a network.

    :param build: builds a network that computes what :func:`nas.testing.networks.plain_cnn` computes.
    """
    plain, other = outcome_of(make(), plain_cnn()), outcome_of(make(), build())
    if isinstance(plain, float):
        expect(isinstance(other, float), f"got {other}, expected a score as the plain network has it")
        expect_close(float(other), plain, "the score", 1e-6)  # type: ignore[arg-type]  # a float by the line above


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

#: Checks of networks that a proxy need not have a score for.
TRACE_CHECKS = (check_leaves_no_trace, check_everything_frozen, check_an_error_leaves_no_trace)


def outcome_of(proxy: Proxy, network: nn.Module, images: int | None = None) -> float | ProxyError:
    """The finite score of the network, or the ProxyError that was raised instead.

    :raises AssertionError: the score is not finite, or computing it has changed something (:mod:`nas.testing.traces`).
    """
    x, labels = _batch_of(proxy) if images is None else batch(images)
    probe = Probe(network, x, labels)
    with unchanged(network, probe, x, labels):
        try:
            return _score(proxy, probe)
        except ProxyError as error:
            expect(bool(str(error)), "a ProxyError must say why there is no score")
            return error


class Broken(nn.Module):
    """A classifier that raises a RuntimeError at the end of its forward pass."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        self.network(images)
        raise RuntimeError("out of order")


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
