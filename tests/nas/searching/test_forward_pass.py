"""Latency and memory of a forward pass."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from nas.executors.local import LocalExecutor
from nas.searching import forward_pass
from nas.searching.forward_pass import MIB, ForwardPass, latency_ms, memory_mib
from nas.searching.scoring import Scorer
from tests.nas.searching.test_scoring import GRADIENTS, SPACE, SPEC, candidates, make_scorer, proxies

IMAGES = torch.rand(2, 3, 8, 8)


class Sleeping(nn.Module):
    """Takes at least as many milliseconds as the list says, pass by pass; the last one again and again."""

    def __init__(self, milliseconds: list[float]):
        super().__init__()
        self.milliseconds = list(milliseconds)
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.passes += 1
        time.sleep((self.milliseconds.pop(0) if len(self.milliseconds) > 1 else self.milliseconds[0]) / 1000)
        return images


def test_the_latency_is_the_median_of_the_passes_after_the_warm_up() -> None:
    network = Sleeping([200] * forward_pass.WARM_UP + [20, 20, 60, 20, 60, 20, 20])
    median, spread = latency_ms(network, IMAGES, repeats=7)
    assert 20 <= median < 40 and 15 < spread < 60 and network.passes == forward_pass.WARM_UP + 7


def test_the_memory_is_what_lives_at_the_same_time() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10)
    ).eval()
    weights = (8 * 27 + 8) + (4 * 72 + 4) + (2560 + 10)
    images, first, second = 2 * 3 * 64, 2 * 8 * 64, 2 * 4 * 64
    peak = max(images + 2 * first, images + first + second, images + second + 20)  # at the ReLU, the input lives on
    assert peak == images + 2 * first
    for given in (IMAGES, IMAGES.contiguous(memory_format=torch.channels_last)):
        assert memory_mib(network, given) * MIB == 4 * (weights + peak)
    network[1] = nn.ReLU(inplace=True)
    assert memory_mib(network, IMAGES) * MIB == 4 * (weights + images + first + second)
    double = nn.Sequential(nn.Linear(3, 3), nn.Identity())
    double[1] = double[0]  # a storage counts once
    assert memory_mib(double, torch.zeros(1, 3)) * MIB == 4 * (12 + 3 + 2 * 3)


def test_the_batch_repeats_the_images() -> None:
    seen: list[Tensor] = []
    network = nn.Identity()
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    scores = ForwardPass(batch=5, memory=True).measure(network, IMAGES)
    assert scores == {"memory_mib": 4 * 5 * 3 * 64 / MIB}
    assert len(seen) == 1 and (seen[0] == IMAGES[[0, 1, 0, 1, 0]]).all()


def scorer(forward: ForwardPass) -> Scorer[object]:
    plain = make_scorer()
    return Scorer(SPACE, SPEC, proxies(GRADIENTS), plain.images, plain.labels, seed=3, forward=forward)  # type: ignore[return-value]


def test_what_is_measured_stands_beside_the_scores_of_the_proxies_which_it_leaves_alone() -> None:
    made = scorer(ForwardPass(latency=True, memory=True))
    assert made.names == (*GRADIENTS, "latency_ms", "latency_ms_spread", "memory_mib")
    for candidate in candidates(2):
        trial, again, plain = made(candidate), made(candidate), make_scorer()(candidate)
        assert {name: trial.scores[name] for name in GRADIENTS} == plain.scores and set(trial.scores) == set(made.names)
        assert trial.scores["memory_mib"] == again.scores["memory_mib"] > 4 * trial.params / MIB
        assert trial.scores["latency_ms"] > 0 and trial.scores["latency_ms_spread"] >= 0


def test_one_candidate_is_measured_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scorer(ForwardPass(memory=True)).parallel and not scorer(ForwardPass(latency=True)).parallel
    running: list[int] = []

    def measured(network: nn.Module, images: Tensor) -> tuple[float, float]:
        running.append(1)
        assert sum(running) == 1 and torch.get_num_threads() == 1
        time.sleep(0.02)
        running.append(-1)
        return 1.0, 0.0

    monkeypatch.setattr(forward_pass, "latency_ms", measured)
    trials = list(LocalExecutor(threads=4).run(scorer(ForwardPass(latency=True)), candidates(4)))
    assert [trial.status for trial in trials] == ["ok"] * 4 and len(running) == 8


def test_a_candidate_above_the_limit_is_infeasible_with_its_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_pass, "latency_ms", lambda network, images: (12.5, 0.5))
    (candidate,) = candidates(1)
    trial = scorer(ForwardPass(latency=True, max_latency_ms=10))(candidate)
    assert (trial.status, trial.violation) == ("infeasible", pytest.approx(0.25))
    assert trial.scores == {"latency_ms": 12.5, "latency_ms_spread": 0.5} and trial.params > 0
    assert trial.error == "latency_ms must be at most 10, got 12.5"
    assert scorer(ForwardPass(latency=True, max_latency_ms=12.5))(candidate).status == "ok"
