"""Learning rates, the average of the weights, and what presets fill in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nas.errors import UserError
from nas.training import TrainConfig
from nas.training.averaging import WeightAverage
from nas.training.schedules import make_schedule
from nas.training.target import resolved


def test_multistep_drops_at_its_epochs() -> None:
    schedule = make_schedule("multistep", 0.1, 105, (99,))
    assert [schedule(each) for each in (0, 98.99)] == [0.1, 0.1]
    assert schedule(99) == schedule(104.9) == pytest.approx(0.01)
    assert make_schedule("multistep", 1.0, 9, (3, 6))(7) == pytest.approx(0.01)


def test_cosine_falls_from_the_rate_to_zero() -> None:
    schedule = make_schedule("cosine", 0.2, 10, ())
    assert schedule(0) == 0.2 and schedule(5) == pytest.approx(0.1) and schedule(10) == pytest.approx(0)
    assert schedule(2.5) == pytest.approx(0.2 * 0.85355339)


def test_one_cycle_rises_and_falls() -> None:
    schedule = make_schedule("one_cycle", 0.2, 10, ())
    assert [round(schedule(each), 10) for each in (0, 2, 4, 7, 10)] == [0, 0.1, 0.2, 0.1, 0]


def test_the_average_follows_its_formula() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    weight, expected = model[0].weight, model[0].weight.item()
    average = WeightAverage(model, 0.5)
    for step in range(1, 20):
        with torch.no_grad():
            weight.fill_(step)
        model[1](torch.rand(2, 1, 2, 2))
        average.count()
        average.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert average.weights["0.weight"].item() == pytest.approx(expected, rel=1e-5)
    assert int(average.weights["1.num_batches_tracked"]) == 19
    assert average.weights["1.running_var"] != model[1].running_var
    assert weight.item() == 19


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("step", 0.1, 10), "--schedule must be multistep or cosine or one_cycle, got step"),
        (("cosine", 0.0, 10), "--learning-rate must be above 0, got 0.0"),
        (("cosine", 0.1, 0), "--epochs must be"),
    ],
)
def test_schedules_that_cannot_be(given: tuple[str, float, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_schedule(*given, ())


# What is given, and what is filled in
FILLED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"preset": "tiny_robustbench", "dataset": "cifar10"},
        {
            "method": "pgd", "epsilon": 8 / 255, "attack_steps": 7, "step_size": 0.01, "epochs": 105,
            "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "multistep", "milestones": (99,),
            "channels": 16, "auxiliary": 0.0, "batch_size": 128, "flip": True, "crop": True,
        },
    ),
    ({"preset": "table"}, {"channels": 36, "auxiliary": 0.4, "drop_path": 0.2, "method": "pgd", "attack_steps": 7}),
    ({"epsilon": "8/255"}, {"epsilon": 8 / 255, "step_size": 10 / 255, "attack_steps": 1}),
    ({"epsilon": "4/255"}, {"epsilon": 4 / 255, "step_size": pytest.approx(5 / 255)}),
    ({"method": "pgd"}, {"attack_steps": 7, "step_size": pytest.approx(2.5 * 8 / 255 / 7)}),
    ({"method": "trades"}, {"attack_steps": 10, "trades_beta": 6.0, "mart_beta": None, "gradient_alignment": None}),
    ({"method": "mart", "mart_beta": 4.0}, {"mart_beta": 4.0, "trades_beta": None}),
    ({"method": "none"}, {"attack_steps": None, "step_size": None}),
    ({"norm": "L2"}, {"epsilon": 128 / 255, "step_size": pytest.approx(1.25 * 128 / 255)}),
    ({"norm": "L2", "epsilon": 3.0}, {"epsilon": 3.0}),
    ({"preset": "tiny_robustbench", "epochs": 20}, {"milestones": (10, 15)}),
    ({"preset": "tiny_robustbench", "milestones": "60, 20"}, {"milestones": (20, 60)}),
    ({"dataset": "svhn"}, {"flip": False, "validation": None}),
    ({"dataset": "digits"}, {"flip": False, "validation": None}),
    ({"epsilon": 0.9}, {"step_size": 1.0}),  # not 1.125: no pixel can move further
    ({"norm": "L2", "epsilon": 0.9}, {"step_size": pytest.approx(1.125)}),
    ({"epsilon": 0}, {"step_size": 0.0}),
    ({"step_size": "2/255"}, {"step_size": 2 / 255}),
    ({"dataset": "digits", "flip": True, "crop": False}, {"flip": True, "crop": False}),
    ({"dataset": "folder:x"}, {"flip": True}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), FILLED, ids=[str(given) for given, _ in FILLED])
def test_what_is_not_given_is_filled_in(given: dict[str, Any], expected: dict[str, Any]) -> None:
    config = resolved(TrainConfig(cell="DARTS_V2", **given))
    assert {name: getattr(config, name) for name in expected} == expected
    assert TrainConfig(**config.to_json()) == config  # what is filled in is taken again as it is


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"epochs": 2.5}, "--epochs must be a whole number, got 2.5"),
        ({"epochs": True}, "--epochs must be a whole number, got True"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a finite number, got nan"),
        ({"weight_decay": -1.0}, "--weight-decay must be at least 0, got -1"),
        ({"label_smoothing": 1.0}, "--label-smoothing must be below 1, got 1.0"),
        ({"norm": "L1"}, "--norm must be Linf or L2, got 'L1'"),
        ({"method": "fgsm"}, "--method must be pgd or trades or mart or fast or none, got 'fgsm'"),
        ({"preset": "best"}, "--preset must be quick or tiny_robustbench or table, got 'best'"),
        ({"flip": "yes"}, "--flip must be true or false, got 'yes'"),
        ({"seed": 2**63}, "--seed"),
        ({"epsilon": [1]}, "--epsilon must be a number or a fraction"),
        ({"milestones": 3.5, "schedule": "multistep"}, "--milestones must be epochs, such as 100,150, got 3.5"),
    ],
    ids=str,
)
def test_values_out_of_bounds(options: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as error:
        TrainConfig(cell="DARTS_V2", **options)
    assert part in str(error.value) and "\n" not in str(error.value)
