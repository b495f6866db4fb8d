"""Small searches whose scores depend on the candidate alone: what the conformance suite of searchers compares."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.base import NetworkSpec, SearchSpace
from searchers.base import Searcher, Status, Trial
from searchers.objectives import SingleScore

if TYPE_CHECKING:
    from searchers.supernet import Material

#: A searcher's class, or a function that also passes options: ``partial(MySearcher, options=MySearcher.Options(...))``.
Make = Callable[..., Searcher[Any]]

TRIALS = 40  # in a history; the population of a searcher that has one should be smaller
BATCH = 4
FEW = 2 * BATCH  # the trials in a history of a searcher that computes with material
IMAGES = 64  # of that material
SEED = 3
SCORE = "score"


def kind_of(make: Make) -> Any:
    """The class that ``make`` makes objects of; ``make`` itself if it is another function than a ``partial``."""
    return kind_of(make.func) if isinstance(make, partial) else make


def length_of(make: Make) -> int:
    """The number of trials in a history."""
    return FEW if getattr(kind_of(make), "needs_material", False) else TRIALS


def material_of(space: SearchSpace[Any]) -> Material:
    """A small material of digits: networks of 4 channels and 3 layers."""
    import torch

    from nas.images.data import load_data
    from proxies.robust import Robust, log_robustness
    from searchers.supernet import Material

    data = load_data("digits").train
    images, labels = data.images[:IMAGES], data.labels[:IMAGES]
    channels, layers = 4 if space.default_channels else None, 3 if space.default_layers else None
    return Material(
        spec=NetworkSpec(
            channels=channels, layers=layers, classes=10, image_size=(8, 8), image_channels=images.shape[1]
        ),
        images=images,
        labels=labels,
        probe_images=images[:8].float() / 255,
        probe_labels=labels[:8],
        device=torch.device("cpu"),
        budget=FEW,
        log_robustness=partial(log_robustness, Robust()),
    )


def new(make: Make, space: SearchSpace[Any], *, seed: int = SEED, **options: Any) -> Searcher[Any]:
    """A searcher that maximizes ``SCORE``."""
    if getattr(kind_of(make), "needs_material", False):
        options["material"] = partial(material_of, space)
    return make(space, seed=seed, objectives=SingleScore(SCORE, "maximize"), **options)


def history_of(make: Make, space: SearchSpace[Any], *, seed: int = SEED) -> list[Trial[Any]]:
    """The ``TRIALS`` trials of a search, told batch by batch; some of them failed, and some are infeasible."""
    return run_on(new(make, space, seed=seed), space, 0, length_of(make))


def run_on(searcher: Searcher[Any], space: SearchSpace[Any], told: int, length: int) -> list[Trial[Any]]:
    """Continue a search of ``length`` trials after the first ``told`` ones; returns the others."""
    history: list[Trial[Any]] = []
    while told + len(history) < length:
        history += step(searcher, space)
    return history


def step(searcher: Searcher[Any], space: SearchSpace[Any]) -> list[Trial[Any]]:
    """Ask for a batch and tell its trials, which are returned."""
    asked = zip(searcher.ask(BATCH), searcher.fidelities(BATCH), strict=True)
    batch = [scored(space, searcher.told + i, genotype, fidelity) for i, (genotype, fidelity) in enumerate(asked)]
    searcher.tell(batch)
    return batch


def stored_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state as it is read from the file of a run."""
    if not state:
        return {}
    from nas.runs.searcher_state import read_state, write_state

    with tempfile.TemporaryDirectory() as folder:
        write_state(Path(folder, "searcher.pt"), state, 0, "")
        return read_state(Path(folder, "searcher.pt"))[0]


def asked_after(searcher: Searcher[Any], space: SearchSpace[Any], history: Sequence[Trial[Any]]) -> list[list[Any]]:
    """The candidates that it proposes in the three batches after the history, with their fidelities."""
    searcher.tell(history)
    return [[(trial.genotype, trial.fidelity) for trial in step(searcher, space)] for _ in range(3)]


def scored(space: SearchSpace[Any], number: int, genotype: Any, fidelity: float) -> Trial[Any]:
    """A trial whose outcome depends on the candidate alone: one in seven fails, and one in seven is infeasible."""
    statuses: dict[int, Status] = {0: "infeasible", 1: "failed"}
    return trial_of(space, number, genotype, statuses.get(number_of(space, genotype) % 7, "ok"), fidelity)


def trial_of(
    space: SearchSpace[Any], number: int, genotype: Any, status: Status, fidelity: float = 1.0
) -> Trial[Any]:
    """The trial ``number`` of this status; its score is a pseudo-random number that depends on the candidate."""
    return Trial(
        id=number,
        key=space.canonical(genotype),
        genotype=genotype,
        seed=0,
        status=status,
        scores={SCORE: float(number_of(space, genotype) % 1000)} if status == "ok" else {},
        error=None if status == "ok" else "as arranged",
        fidelity=fidelity,
    )


def number_of(space: SearchSpace[Any], genotype: Any) -> int:
    """A pseudo-random number that is equal for genotypes with the same canonical key."""
    return zlib.crc32(space.canonical(genotype).encode())
