"""What an untrained network is worth: zero-cost proxies, one paper a file.

Add one: a :class:`~proxies.base.Proxy` in a file of its own, a line in ``_MODULES``, a row in the table of
``tests/proxies/test_conformance.py``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from proxies.base import Proxy

_MODULES = {
    "robust": ("proxies.robust", "Robust"),
    "robust_released": ("proxies.robust_released", "RobustReleased"),
    "grad_norm": ("proxies.grad_norm", "GradNorm"),
    "snip": ("proxies.snip", "Snip"),
    "synflow": ("proxies.synflow", "Synflow"),
    "params": ("proxies.baselines", "Params"),
    "macs": ("proxies.baselines", "Macs"),
    "conv_count": ("proxies.baselines", "ConvCount"),
}

#: Names of all proxies.
PROXIES = tuple(_MODULES)


def get_proxy(name: str, **options: Any) -> Proxy:
    """The proxy of that name.

    :raises ValueError: unknown name (with the nearest ones) or an option out of range.
    """
    if name not in _MODULES:
        near = difflib.get_close_matches(name.lower(), PROXIES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"unknown proxy '{name}'; {hint}expected one of {', '.join(PROXIES)}")
    module, attribute = _MODULES[name]
    proxy: Proxy = getattr(importlib.import_module(module), attribute)(**options)
    return proxy


def score(model: nn.Module, images: Tensor, labels: Tensor, names: Sequence[str] = PROXIES) -> dict[str, float]:
    """The scores of any torch classifier, by proxy name.

    :param model: ``(N, C, H, W)`` -> ``(N, classes)``; left as it is found.
    :param images: ``(N, C, H, W)`` in [0, 1]. Proxies of more than N images by default use N.
    :param labels: ``(N,)``, int64.
    :raises proxies.base.ProxyError: a proxy has no finite value for this network.
    """
    from proxies.base import Probe

    names = [names] if isinstance(names, str) else names
    probe = Probe(model, images, labels)
    limits = {"ntk_images": min(50, len(images)), "curvature_images": min(8, len(images))}
    options = {name: limits if name.startswith("robust") else {} for name in names}
    return {name: get_proxy(name, **options[name]).score(probe) for name in names}
