"""``darts`` as a searcher: what it proposes, when it ends, and what its records hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from search_spaces import get_space
from search_spaces.base import NetworkSpec
from searchers.base import Trial
from searchers.darts import Darts
from searchers.supernet import Material
from tests.searchers.toy_space import ToySpace

IMAGES = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def material() -> Material:
    return Material(
        spec=NetworkSpec(channels=4, layers=3, classes=2, image_size=(8, 8)),
        images=IMAGES, labels=torch.arange(16) % 2, probe_images=IMAGES[:2].float() / 255, probe_labels=torch.arange(2),
        device=torch.device("cpu"), budget=6, log_robustness=lambda *_: torch.zeros(()),
    )  # fmt: skip


def made(space: str = "nasbench201", **options: Any) -> Darts[Any]:
    words = Darts.Options(**{"epochs": 3, "architecture_learning_rate": 0.1, **options})
    return Darts(get_space(space), seed=0, objectives=None, options=words, material=material)  # type: ignore[arg-type]


def told(searcher: Darts[Any], count: int) -> list[str]:
    """The keys of the next ``count`` candidates, told one by one."""
    keys = []
    for _ in range(count):
        (genotype,) = searcher.ask(1)
        keys.append(searcher.space.canonical(genotype))
        searcher.tell([Trial(id=searcher.told, key=keys[-1], genotype=genotype, seed=0, status="ok")])
    return keys


def prefer(searcher: Darts[Any], operation: str) -> None:
    """Make this operation the strongest one on all edges, for good."""
    with torch.no_grad():
        for name, weights in searcher._training.supernet.architecture.items():
            weights[:, searcher._training.supernet.operations.index(operation)] = 50.0 if name != "reduce" else 0.0


def test_derived_cells_come_first_and_neighbours_of_the_last_one_then() -> None:
    searcher = made()
    keys = told(searcher, 3)
    assert searcher.ended and [each["step"] for each in searcher.records] == [1, 2, 3]
    space = searcher.space
    assert keys == [space.canonical(space.parse(each["cell"])) for each in searcher.records]
    around = {space.canonical(each) for each in space.neighbours(space.parse(searcher.records[-1]["cell"]))}
    later = told(searcher, 5)
    assert set(later) <= around and not set(later) & set(keys)
    assert len(searcher.records) == 3


def test_without_epochs_it_trains_for_the_whole_budget() -> None:
    searcher = made(epochs=0)
    told(searcher, 6)
    assert searcher.ended and len(searcher.records) == 6


def test_a_record_says_what_the_weights_are() -> None:
    searcher = made()
    told(searcher, 1)
    (record,), supernet = searcher.records, searcher._training.supernet
    weights = supernet.mixing()["cell"].tolist()
    assert record["weights"]["cell"] == [pytest.approx(row, abs=1e-6) for row in weights]
    assert record["entropy"] == pytest.approx(-sum(w * math.log(w) for row in weights for w in row) / 6, abs=1e-6)
    assert record["skip_connections"] == record["cell"].count("skip_connect") and record["edges"] == 6
    assert set(record) >= {"train_loss", "train_accuracy", "valid_loss", "valid_accuracy"}


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_it_stops_at_so_many_skip_connections(space: str) -> None:
    searcher = made(space, stop_at_skips=2, warm_up_epochs=1)
    prefer(searcher, "skip_connect")
    told(searcher, 1)
    assert not searcher.ended  # the architecture weights have not moved
    told(searcher, 3)
    assert searcher.ended and len(searcher.records) == 2
    last = searcher.records[-1]
    assert last["collapsed"] and last["skip_connections"] == last["edges"] == (6 if space == "nasbench201" else 8)


def test_it_does_not_stop_below_the_number_or_without_the_option() -> None:
    for options, operation in (({"stop_at_skips": 1}, "avg_pool_3x3"), ({}, "skip_connect")):
        searcher = made(**options)
        prefer(searcher, operation)
        told(searcher, 3)
        assert len(searcher.records) == 3
        assert searcher.records[-1]["collapsed"] is (operation == "skip_connect")


@pytest.mark.parametrize("done", [0, 2, 4])
def test_a_restored_searcher_continues_as_the_first_would(done: int) -> None:
    first = made()
    keys = told(first, done)
    state, expected = first.state_dict(), told(first, 3)
    second = made()
    second.restore(state, done)
    for id, key in enumerate(keys):
        second.tell([Trial(id=id, key=key, genotype=None, seed=0, status="ok")])
    assert told(second, 3) == expected and second.records == first.records


def test_the_seed_decides() -> None:
    words, objectives = Darts.Options(epochs=3), None
    keys = [
        told(Darts(get_space("nasbench201"), seed=seed, objectives=objectives, options=words, material=material), 1)  # type: ignore[arg-type]
        for seed in (0, 0, 1)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    told(made(gumbel=10.0, inner="fgsm"), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_space_without_a_supernet_is_refused() -> None:
    with pytest.raises(ValueError, match="Darts needs a space with a supernet, got toy"):
        Darts(ToySpace(), seed=0, objectives=None, material=material)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"order": 3}, "order must be at most 2, got 3"),
        ({"batch_size": 3}, "batch_size must be at least 4, got 3"),
        ({"inner": "cw"}, "inner must be clean or fgsm or pgd, got 'cw'"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, got nan"),
        ({"curvature_weight": -1.0}, "curvature_weight must be at least 0, got -1.0"),
    ],
)
def test_a_wrong_option_is_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Darts.Options(**option)
