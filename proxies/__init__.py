"""Zero-cost proxies, which score untrained networks; one paper a file.

To add one: write a :class:`~proxies.base.Proxy` in a file of its own, a line in ``MODULES`` and a row in the table of
``tests/proxies/conformance.py``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxies.spelling import check_options, parsed, spelled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor, nn

    from proxies.base import Proxy
    from proxies.population import Population, PopulationProxy, Scores

MODULES = {
    "robust": ("proxies.robust", "Robust"),
    "robust_released": ("proxies.robust_released", "RobustReleased"),
    "grad_norm": ("proxies.grad_norm", "GradNorm"),
    "snip": ("proxies.snip", "Snip"),
    "plain": ("proxies.plain", "Plain"),
    "l2_norm": ("proxies.l2_norm", "L2Norm"),
    "grasp": ("proxies.grasp", "Grasp"),
    "fisher": ("proxies.fisher", "Fisher"),
    "jacob_cov": ("proxies.jacob_cov", "JacobCov"),
    "synflow": ("proxies.synflow", "Synflow"),
    "synflow_bn": ("proxies.synflow_bn", "SynflowBn"),
    "naswot": ("proxies.naswot", "Naswot"),
    "zico": ("proxies.zico", "Zico"),
    "zen": ("proxies.zen", "Zen"),
    "az_expressivity": ("proxies.az_nas", "AzExpressivity"),
    "az_progressivity": ("proxies.az_nas", "AzProgressivity"),
    "az_trainability": ("proxies.az_nas", "AzTrainability"),
    "az_complexity": ("proxies.az_nas", "AzComplexity"),
    "croze": ("proxies.croze", "Croze"),
    "snap": ("proxies.r_score", "Snap"),
    "con_js": ("proxies.r_score", "ConJs"),
    "diverse_capacity": ("proxies.diverse_capacity", "DiverseCapacity"),
    "params": ("proxies.baselines", "Params"),
    "macs": ("proxies.baselines", "Macs"),
    "conv_count": ("proxies.baselines", "ConvCount"),
}

POPULATION_MODULES = {
    "az_nas": ("proxies.az_nas", "AzNas"),
    "r_score": ("proxies.r_score", "RScore"),
}

#: Names of all proxies of a network.
PROXIES = tuple(MODULES)

#: Names of all proxies that compare the networks of a population.
POPULATION_PROXIES = tuple(POPULATION_MODULES)


def get_proxy(name: str, **options: Any) -> Proxy | PopulationProxy:
    """The proxy of that name: a :class:`~proxies.population.PopulationProxy` if it is one of ``POPULATION_PROXIES``.

    :param name: the name alone, or with options, ``snip(images=64, norm=train)``, which take precedence over
        ``options``. A proxy written with options has this text as its name.
    :raises ValueError: an unknown name or option (with the nearest ones), or an option out of range.
    """
    base, own = parsed(name)
    modules = {**MODULES, **POPULATION_MODULES}
    if base not in modules:
        near = difflib.get_close_matches(base.lower(), modules, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"unknown proxy '{base}'; {hint}expected one of {', '.join(modules)}")
    if own and base in POPULATION_MODULES:
        raise ValueError(f"'{base}' compares networks by scores that others may share: it takes no options in its name")
    module, attribute = modules[base]
    make = getattr(importlib.import_module(module), attribute)
    check_options(base, make, own)
    try:
        proxy: Proxy | PopulationProxy = make(**{**options, **own})
    except ValueError as error:
        raise ValueError(f"the proxy {base}: {error}") from None
    if own:
        proxy.name = spelled(base, own)  # type: ignore[misc]  # the name of this object, not of its class
    return proxy


def get_network_proxy(name: str, **options: Any) -> Proxy:
    """The proxy of that name, which scores a single network.

    :raises ValueError: as :func:`get_proxy`, or the proxy compares the networks of a population.
    """
    from proxies.base import Proxy

    proxy = get_proxy(name, **options)
    if not isinstance(proxy, Proxy):
        parts = ", ".join(each.name for each in proxy.components)
        raise ValueError(f"'{name}' compares networks: score_population takes it; a single network has {parts}")
    return proxy


def score(
    model: nn.Module, images: Tensor | ArrayLike, labels: Tensor | ArrayLike, names: Sequence[str] = PROXIES
) -> dict[str, float]:
    """The scores of any torch classifier, by proxy name.

    A copy of the model is scored (:mod:`proxies.engine.models`), in float32 if its weights have less than 32 bits.
    Modes of the caller, such as ``torch.inference_mode``, do not matter; random states are left as they are.

    :param model: ``(N, C, H, W)`` -> ``(N, classes)``; it is not changed.
    :param images: ``(N, C, H, W)`` in [0, 1], a tensor or an array on any device and of any floating-point type.
        Proxies that take more than N images by default use N.
    :param labels: ``(N,)``, whole numbers from 0 to classes - 1.
    :raises ValueError: an unknown name, images or labels of another form, or fewer images than a proxy needs.
    :raises proxies.base.ProxyError: the model cannot be scored, or has no finite value by a proxy, which the message
        names.
    """
    from proxies.engine.scoring import scores_of

    names = [names] if isinstance(names, str) else names
    return scores_of(model, images, labels, {name: get_network_proxy(name) for name in names})


def score_population(
    population: Population,
    images: Tensor | ArrayLike | None = None,
    labels: Tensor | ArrayLike | None = None,
    names: Sequence[str] = POPULATION_PROXIES,
) -> dict[str, Scores]:
    """The scores of several networks by proxies that compare them with one another, ``(n,)`` by proxy name.

    :param population: the networks, which are not changed, or for each its scores by the components of the proxies.
    :param images: as in :func:`score`, only where the population are networks.
    :param labels: likewise.
    :raises ValueError: an unknown name, or a proxy that scores a single network.
    :raises proxies.base.ProxyError: fewer than two networks, or one without a finite score.
    """
    from proxies.population import PopulationProxy, combine_all

    names = [names] if isinstance(names, str) else names
    found = [get_proxy(name) for name in names]
    for proxy in found:
        if not isinstance(proxy, PopulationProxy):
            raise ValueError(f"'{proxy.name}' scores a single network: score takes it, with one network")
    return combine_all([each for each in found if isinstance(each, PopulationProxy)], population, images, labels)
