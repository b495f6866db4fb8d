"""Writes ``scores.json``: what every proxy gives for 20 random cells of each space.

The file was made once, before the networks became plain modules, and is the measure of every change since. It is made
again only where a proxy is meant to have another value: ``python -m tests.golden.make_scores NAME ...`` replaces the
values of these proxies, without names those of all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import proxies
from proxies.base import ProxyError
from search_spaces import get_space
from search_spaces.base import NetworkSpec

SCORES = Path(__file__).parent / "scores.json"
CELLS = 20
IMAGES = 32
SIZES = {
    "darts": NetworkSpec(channels=8, layers=5, image_size=(16, 16)),
    "nasbench201": NetworkSpec(channels=8, layers=6, image_size=(16, 16)),
}


def scores_of(space_name: str, number: int, names: Sequence[str]) -> tuple[str, dict[str, float | None]]:
    """The canonical key of cell ``number``, and its scores; None where a proxy has none."""
    space = get_space(space_name)
    key = space.canonical(space.sample(np.random.default_rng((0, number))))
    generator = torch.Generator().manual_seed(number)
    images = torch.rand(IMAGES, 3, 16, 16, generator=generator)
    labels = torch.randint(10, (IMAGES,), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        network = space.build(space.parse(key), SIZES[space_name])
    try:
        return key, dict(proxies.score(network, images, labels, names))
    except ProxyError:  # one of them has no value: which one?
        return key, {name: _alone(network, images, labels, name) for name in names}


def _alone(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, name: str) -> float | None:
    try:
        return proxies.score(network, images, labels, [name])[name]
    except ProxyError:
        return None


def main(names: Sequence[str]) -> None:
    """Replace the values of ``names``, by default of all proxies."""
    stored: dict[str, Any] = json.loads(SCORES.read_text()) if names else {}
    for space in SIZES:
        for number in range(CELLS):
            key, found = scores_of(space, number, names or proxies.PROXIES)
            cell = stored.setdefault(space, {}).setdefault(str(number), {"key": key, "scores": {}})
            cell["scores"].update(found)
    SCORES.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
