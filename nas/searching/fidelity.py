"""What a network and its proxies are at a reduced fidelity.

A fidelity f is the share of the full effort that scoring a candidate may take. The effort grows with the square of the
channels, with the layers and with the images. So each of these three is multiplied by the fourth root of f and rounded:
at a ninth of the effort, 16 channels, 8 layers and 50 images become 9, 5 and 29. Channels and layers are then the
nearest numbers, up to the full ones, with which the space has networks; the least of everything is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from search_spaces.base import NetworkSpec, SearchSpace


def reduced(number: int, fidelity: float) -> int:
    """A number of channels, layers or images at a fidelity: at least 1."""
    return max(1, round(number * float(fidelity**0.25)))


def reduced_spec(spec: NetworkSpec, space: SearchSpace[Any], fidelity: float) -> NetworkSpec:
    """The size of networks at a fidelity. The space has networks of the size ``spec``."""
    for name in ("channels", "layers"):
        full: int | None = getattr(spec, name)
        if full is not None:
            wanted = reduced(full, fidelity)
            nearest = sorted(range(1, full + 1), key=lambda number: abs(number - wanted))
            spec = next(size for size in _sizes(spec, name, nearest) if _has_networks(space, size))
    return spec


def _sizes(spec: NetworkSpec, name: str, numbers: Iterable[int]) -> Iterator[NetworkSpec]:
    for number in numbers:
        change: dict[str, Any] = {name: number}
        yield replace(spec, **change)


def _has_networks(space: SearchSpace[Any], spec: NetworkSpec) -> bool:
    try:
        space.check_spec(spec)
    except ValueError:
        return False
    return True
