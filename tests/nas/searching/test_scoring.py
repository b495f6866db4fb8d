from __future__ import annotations

import dataclasses
import gc
import hashlib
import pickle
import random
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import OutOfMemory
from nas.executors.local import LocalExecutor
from nas.searching.scoring import Candidate, Scorer, candidate_seed
from proxies import get_proxy
from proxies.base import Probe, Proxy
from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import CellGenotype
from search_spaces.darts.space import DartsSpace
from searchers.base import Trial

ROOT = Path(__file__).resolve().parents[3]
SPACE = DartsSpace()
SPEC = NetworkSpec(channels=4, layers=2, image_size=(16, 16))
GRADIENTS = ("robust", "grad_norm", "synflow")


class NoBuildSpace(DartsSpace):
    """A space whose networks must not be built."""

    def build(self, genotype: CellGenotype, spec: NetworkSpec) -> Any:
        raise AssertionError("built a network")


class Raising(Proxy):
    """Raises what it is given, or returns it."""

    name = "raising"
    direction = "maximize"
    cost = "count"

    def __init__(self, outcome: Exception | float):
        self.outcome = outcome

    def score(self, probe: Probe) -> float:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def proxies(names: Sequence[str]) -> list[Proxy]:
    return [get_proxy(name, **({"ntk_images": 6, "curvature_images": 2} if name == "robust" else {})) for name in names]


def make_scorer(
    use: Sequence[str | Proxy] = GRADIENTS, seed: int = 3, space: DartsSpace = SPACE
) -> Scorer[CellGenotype]:
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = [each if isinstance(each, Proxy) else proxies([each])[0] for each in use]
    return Scorer(space, SPEC, made, images, torch.arange(6), seed=seed)


def candidates(n: int) -> list[Candidate[CellGenotype]]:
    genotypes = [SPACE.sample(np.random.default_rng(i)) for i in range(n)]
    return [Candidate(i, SPACE.canonical(genotype), genotype) for i, genotype in enumerate(genotypes)]


def timeless(trial: Trial[Any]) -> Trial[Any]:
    return dataclasses.replace(trial, seconds=0.0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread_per_operation() -> Iterator[None]:
    """As executors have it: how torch splits an operation over threads changes the order of its sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def expected() -> list[Trial[CellGenotype]]:
    trials = [timeless(make_scorer()(candidate)) for candidate in candidates(4)]
    assert {trial.status for trial in trials} == {"ok"} and set(trials[0].scores) == set(GRADIENTS)
    return trials


def test_a_trial_holds_what_was_counted(expected: list[Trial[CellGenotype]]) -> None:
    for trial, candidate in zip(expected, candidates(4), strict=True):
        cost = SPACE.cost(candidate.genotype, SPEC)
        assert (trial.id, trial.key, trial.genotype) == (candidate.id, candidate.key, candidate.genotype)
        assert (trial.params, trial.macs) == (cost.params, cost.macs)
        assert trial.seed == candidate_seed(3, candidate.key) and trial.error is None
    assert make_scorer(["params"])(candidates(1)[0]).seconds > 0


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_scores_do_not_depend_on_order_or_threads(threads: int, expected: list[Trial[CellGenotype]]) -> None:
    todo = candidates(4)
    random.Random(threads).shuffle(todo)
    trials = LocalExecutor(threads).run(make_scorer(), todo)
    assert sorted(map(timeless, trials), key=lambda trial: trial.id) == expected


def test_scores_do_not_depend_on_the_place_in_the_history(expected: list[Trial[CellGenotype]]) -> None:
    moved = make_scorer()(dataclasses.replace(candidates(4)[2], id=99))
    assert moved.scores == expected[2].scores and moved.id == 99


def test_a_pickled_scorer_scores_alike_in_another_process(tmp_path: Path, expected: list[Trial[CellGenotype]]) -> None:
    scorer = pickle.loads(pickle.dumps(make_scorer()))
    assert timeless(scorer(candidates(1)[0])) == expected[0]
    (tmp_path / "scorer").write_bytes(pickle.dumps((make_scorer(), candidates(1)[0])))
    program = (
        "import pickle, sys, torch; torch.set_num_threads(1); torch.manual_seed(77)\n"
        "scorer, candidate = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(repr(scorer(candidate).scores))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "scorer")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == repr(expected[0].scores)


def test_the_seed_of_the_run_matters(expected: list[Trial[CellGenotype]]) -> None:
    other = make_scorer(seed=4)(candidates(1)[0])
    assert other.seed != expected[0].seed and other.scores["grad_norm"] != expected[0].scores["grad_norm"]


def test_seeds_of_candidates_are_spread() -> None:
    seeds = {candidate_seed(run, key) for run in range(10) for key in map(str, range(100))}
    assert len(seeds) == 1000 and all(0 <= seed < 2**63 for seed in seeds)
    # Stored runs depend on these values; sha256(b"0:key"), first 8 bytes, halved.
    assert candidate_seed(0, "key") == int.from_bytes(hashlib.sha256(b"0:key").digest()[:8], "big") // 2


def test_genotypes_of_one_key_score_alike(expected: list[Trial[CellGenotype]]) -> None:
    candidate = candidates(1)[0]
    text = SPACE.format(candidate.genotype)
    a, b = (f"({edge[0]!r}, {edge[1]})" for edge in _first_node(text))
    swapped = SPACE.parse(text.replace(f"{a}, {b}", f"{b}, {a}", 1))
    assert swapped != candidate.genotype and SPACE.canonical(swapped) == candidate.key
    trial = make_scorer()(Candidate(0, candidate.key, swapped))
    assert trial.scores == expected[0].scores and trial.genotype == swapped


def _first_node(text: str) -> list[tuple[str, str]]:
    """The two inputs of the first node in the text of a genotype: operation and where from."""
    return re.findall(r"\('(\w+)', (\d)\)", text)[:2]


def test_global_random_state_is_untouched() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    list(LocalExecutor(2).run(make_scorer(), candidates(2)))
    make_scorer()(candidates(1)[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1] and random.getstate() == before[2]  # type: ignore[index]


def test_the_number_of_threads_is_put_back() -> None:
    torch.set_num_threads(3)
    list(LocalExecutor(2).run(make_scorer(["params"]), candidates(3)))
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (RuntimeError("shapes\n  differ"), "RuntimeError: shapes differ"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (float("nan"), "ArithmeticError: raising is nan, expected a finite number"),
        (float("-inf"), "ArithmeticError: raising is -inf, expected a finite number"),
    ],
)
def test_a_candidate_that_cannot_be_scored_fails_with_its_reason(outcome: Any, error: str) -> None:
    candidate = candidates(1)[0]
    trial = make_scorer(["params", Raising(outcome)])(candidate)
    cost = SPACE.cost(candidate.genotype, SPEC)
    assert (trial.status, trial.scores, trial.error) == ("failed", {}, error)
    assert (trial.params, trial.macs, trial.genotype) == (cost.params, cost.macs, candidate.genotype)


def test_want_of_memory_is_no_trial_and_is_passed_on_without_what_was_held() -> None:
    held: list[weakref.ref[Any]] = []

    class Hungry(Raising):
        def score(self, probe: Probe) -> float:
            held.append(weakref.ref(probe.network))
            raise MemoryError("no room")

    with pytest.raises(OutOfMemory, match="MemoryError: no room"):
        make_scorer([Hungry(0.0)])(candidates(1)[0])
    gc.collect()
    assert held[0]() is None


def test_a_reason_is_not_endless() -> None:
    trial = make_scorer([Raising(ValueError("x" * 10_000))])(candidates(1)[0])
    assert trial.error is not None and len(trial.error) < 600


def test_a_key_that_cannot_be_read_fails() -> None:
    trial = make_scorer()(Candidate(0, "nonsense", candidates(1)[0].genotype))
    assert trial.status == "failed" and trial.error is not None and "nonsense" in trial.error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit()])
def test_an_interrupt_is_no_failed_trial(interrupt: BaseException) -> None:
    class Interrupting(Raising):
        def score(self, probe: Probe) -> float:
            raise interrupt

    with pytest.raises(type(interrupt)):
        make_scorer([Interrupting(0.0)])(candidates(1)[0])


def test_counting_never_builds_the_network() -> None:
    trial = make_scorer(["params", "macs"], space=NoBuildSpace())(candidates(1)[0])
    assert trial.error is None and trial.scores == {"params": float(trial.params), "macs": float(trial.macs)}
    assert make_scorer(["params", "grad_norm"], space=NoBuildSpace())(candidates(1)[0]).status == "failed"


def test_counts_are_the_network_s_own() -> None:
    trial = make_scorer(["params"])(candidates(1)[0])
    network: nn.Module = SPACE.build(trial.genotype, SPEC)
    assert trial.params == sum(weights.numel() for weights in network.parameters())
