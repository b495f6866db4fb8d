"""What the tests of searchers on an untrained supernet compute with: tiny networks, random images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from nas.testing.networks import SMALL, batch
from proxies.robust import Robust, log_robustness
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from searchers.base import Trial
from searchers.objectives import SingleScore
from searchers.supernet import Material, SupernetSearcher


def material(score: Callable[..., torch.Tensor] | None = None, spec: NetworkSpec = SMALL) -> Material:
    """With images of 8 x 8 pixels; ``score`` in place of the proxy's."""
    images, labels = batch()
    return Material(
        spec=spec,
        images=(255 * images).to(torch.uint8),
        labels=labels,
        probe_images=images.float(),
        probe_labels=labels,
        device=torch.device("cpu"),
        budget=20,
        log_robustness=score or partial(log_robustness, Robust()),
    )


def searcher_on(
    kind: type[SupernetSearcher[Any]], space: str, *, score: Any = None, seed: int = 0, **options: Any
) -> SupernetSearcher[Any]:
    """A searcher on the supernet of ``space``; options are its own. The smallest network does for a ``score``."""
    small = score is not None and space == "darts"
    spec = replace(SMALL, channels=2, layers=1) if small else SMALL
    return kind(
        get_space(space),
        seed=seed,
        objectives=SingleScore("robust", "maximize"),
        options=kind.Options(**options),
        material=lambda: material(score, spec),
    )


def told(searcher: SupernetSearcher[Any], trials: int) -> list[str]:
    """Ask for one candidate after another and tell their trials; returns the candidates' keys."""
    keys = []
    for _ in range(trials):
        (genotype,) = searcher.ask(1)
        keys.append(searcher.space.canonical(genotype))
        searcher.tell([Trial(id=searcher.told, key=keys[-1], genotype=genotype, seed=0, status="ok")])
    return keys


def resumed(searcher: SupernetSearcher[Any], new: SupernetSearcher[Any], keys: list[str]) -> SupernetSearcher[Any]:
    """``new`` with the state of ``searcher``, told its trials, as a resumed search does it."""
    new.restore(searcher.state_dict(), len(keys))
    for number, key in enumerate(keys):
        new.tell([Trial(id=number, key=key, genotype=new.space.parse(key), seed=0, status="ok")])
    return new


def prizes(space: str) -> dict[str, torch.Tensor]:
    """By name of the cell ``(edges, operations)``: random numbers, and 5 at ``none``."""
    supernet = get_space(space).supernet(SMALL)  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(1)
    drawn = {
        name: torch.rand(len(supernet.architecture[name]), len(supernet.operations), generator=generator)
        for name in supernet.groups
    }
    for each in drawn.values():
        each[:, supernet.operations.index("none")] = 5.0
    return drawn


def linear(prizes: dict[str, torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A score in place of the proxy's: the sum of the weights times the prizes."""

    def score(network: Any, images: Any, labels: Any, *, params: Any) -> torch.Tensor:
        return sum((weights * prizes[name]).sum() for name, weights in network.mixing.items())  # type: ignore[return-value]

    return score


def without_none(space: str, prizes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The prizes with 0 at ``none``."""
    supernet = get_space(space).supernet(SMALL)  # type: ignore[attr-defined]
    allowed = torch.tensor([operation != "none" for operation in supernet.operations])
    return {name: each * allowed for name, each in prizes.items()}
