from __future__ import annotations

import math

import pytest
import torch

from searchers.base import SearcherStopped
from searchers.untrained_supernet import drawn_supernet, relaxed_score
from searchers.zero_shot_gradient import ZeroShotGradient
from tests.searchers.supernets import linear, prizes, resumed, searcher_on, told, without_none


def test_climbs_to_the_best_operations_until_the_entropy_settles() -> None:
    """Of a score that is a sum over edges: ``none`` has the greatest prize, and weight 0."""
    prize = prizes("nasbench201")
    searcher = searcher_on(ZeroShotGradient, "nasbench201", score=linear(prize), architecture_learning_rate=1.0)
    keys = told(searcher, 25)
    assert searcher.ended and len(searcher.records) == searcher.steps < 25
    for name, best in without_none("nasbench201", prize).items():
        weights = torch.tensor(searcher.records[-1]["weights"][name])
        assert torch.equal(weights.argmax(-1), best.argmax(-1))
        assert not weights[prize[name] == 5.0].any()
    entropies = [record["entropy"] for record in searcher.records]
    assert entropies == sorted(entropies, reverse=True)
    assert math.log(len(best[0]) - 1) > entropies[0] > 1.0 > 0.1 > entropies[-1]
    changes = [a - b for a, b in zip(entropies, entropies[5:], strict=False)]
    assert all(change >= 0.05 for change in changes[:-1]) and changes[-1] < 0.05
    neighbours = set(keys[searcher.steps :])
    assert len(neighbours) == 25 - searcher.steps and keys[searcher.steps - 1] not in neighbours


def test_the_first_step_is_adams_along_the_mean_gradient() -> None:
    searcher = searcher_on(ZeroShotGradient, "nasbench201", draws=2, architecture_learning_rate=0.25, supernet_images=4)
    weights = torch.zeros(6, 5, requires_grad=True)
    scores = []
    for draw in range(2):
        supernet = drawn_supernet(searcher.relaxable, searcher.material, 0, 0, draw)
        mixing = weights.masked_fill(torch.tensor([True, False, False, False, False]), -math.inf).softmax(-1)
        scores.append(relaxed_score(searcher.material, supernet, {"cell": mixing}, 4))
    (gradient,) = torch.autograd.grad((scores[0] + scores[1]) / 2, weights)
    assert not gradient[:, 0].any()
    told(searcher, 1)
    moved = (0.25 * gradient.sign()).masked_fill(gradient == 0, -math.inf).softmax(-1)  # Adam's first step is a sign
    assert torch.tensor(searcher.records[0]["weights"]["cell"]).allclose(moved, atol=2e-6)
    assert searcher.records[0]["log_robustness"] == pytest.approx(sum(each.item() for each in scores) / 2, rel=1e-6)


def test_on_the_proxy_the_entropy_falls_and_a_resumed_search_is_the_same() -> None:
    whole = searcher_on(ZeroShotGradient, "nasbench201", steps=7)
    keys = told(whole, 9)
    assert whole.steps == 7 and len(set(keys[7:])) == 2
    assert whole.records[-1]["entropy"] < 0.85 * math.log(4)
    for trials in (0, 3, 8):
        first = searcher_on(ZeroShotGradient, "nasbench201", steps=7)
        told(first, trials)
        second = resumed(first, searcher_on(ZeroShotGradient, "nasbench201", steps=7), keys[:trials])
        assert told(second, 9 - trials if trials else 2) == keys[trials : 9 if trials else 2]
        assert second.records == whole.records[: len(second.records)]
    other = searcher_on(ZeroShotGradient, "nasbench201", steps=7, seed=1)
    told(other, 1)
    assert other.records[0] != whole.records[0]


def test_derives_a_cell_of_darts() -> None:
    searcher = searcher_on(ZeroShotGradient, "darts", steps=1, supernet_images=2)
    told(searcher, 1)
    derived = searcher.derived
    assert searcher.space.parse(searcher.space.format(derived)) == derived
    for weights in searcher.records[0]["weights"].values():
        assert all(row[0] == 0 and sum(row) == pytest.approx(1, abs=1e-5) for row in weights)


@pytest.mark.parametrize("name", ["steps", "draws", "supernet_images"])
def test_options_are_whole_numbers_from_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ZeroShotGradient.Options(**{name: 0})


@pytest.mark.parametrize(
    ("score", "message"),
    [(math.nan, "the score of the supernet is nan, expected a finite"), (None, "has no score: the curvature is 0")],
)
def test_a_supernet_without_a_score_stops_the_search(score: float | None, message: str) -> None:
    def scored(*arguments: object, params: torch.Tensor) -> torch.Tensor:
        if score is None:
            raise ValueError("the curvature is 0")
        return params * score

    with pytest.raises(SearcherStopped, match=message):
        searcher_on(ZeroShotGradient, "darts", score=scored).ask(1)
