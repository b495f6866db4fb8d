"""Replayed training steps against plain ones, on the CPU: a tape stands for the CUDA graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.images.data import load_data
from nas.models.architecture import Architecture
from nas.training import TrainConfig, Trainer
from nas.training.averaging import WeightAverage
from nas.training.images import TrainingImages
from nas.training.learner import Learner, make_recorder
from nas.training.replay import PLAIN_CALLS, Replayed
from nas.training.sgd import TensorRateSGD
from tests.nas.training.tape import Refusing, Tape

SMALL: dict[str, Any] = {
    "cell": "DARTS_V2", "channels": 2, "layers": 2, "image_size": 8, "images": 94, "batch_size": 16, "epochs": 2,
    "gradient_clip": 1.0, "ema": 0.9, "schedule": "cosine", "threads": 1,
}  # fmt: skip
METHODS = [
    {"method": "none", "label_smoothing": 0.1},
    {"method": "pgd", "attack_steps": 2},
    {"method": "pgd", "attack_steps": 2, "attack_mode": "train", "gradient_clip": 0.0, "weight_decay": 0.0},
    {"method": "pgd", "attack_steps": 2, "norm": "L2", "epsilon": 0.5, "momentum": 0.0},
    {"method": "fast", "drop_path": 0.4},
    {"method": "trades", "attack_steps": 2, "attack_mode": "train"},
    {"method": "trades", "attack_steps": 2, "norm": "L2", "epsilon": 0.5},
    {"method": "mart", "attack_steps": 2, "ema": 0.0},
    {"method": "fast", "precision": "bfloat16"},
    {"method": "fast", "auxiliary": 0.4, "image_size": 32, "images": 70},
]


def made(recorder: Any = None, device: str = "cpu", **options: Any) -> tuple[Learner, TrainingImages]:
    config = TrainConfig(**{**SMALL, **options})
    split = load_data("digits", image_size=config.image_size).train
    size = (config.image_size or 8,) * 2
    architecture = Architecture(
        family="darts", genotype=config.cell or "", channels=2, layers=2, auxiliary=config.auxiliary > 0,
        classes=split.classes, image_size=size, mean=(0.5,) * 3, std=(0.3,) * 3,
    )  # fmt: skip
    data = TrainingImages.chosen(split, torch.arange(config.images or 94), device)
    return Learner(config, architecture, device, recorder), data


def everything(learner: Learner) -> dict[str, Tensor]:
    """All tensors that a training has changed."""
    state = learner.state()
    momenta = {f"momentum {number}": each for number, each in enumerate(state["momenta"]) if each is not None}
    own = {f"own {name}": each for name, each in learner.model.state_dict().items()}
    return {**learner.weights(), **own, **momenta}


def assert_same(one: Learner, other: Learner) -> None:
    ours, others = everything(one), everything(other)
    assert ours.keys() == others.keys()
    assert [name for name, value in ours.items() if not torch.equal(value, others[name])] == []


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_replayed_steps_are_the_plain_ones(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Two epochs of six batches; the learning rate and the weight of the average change in every step."""
    said = "warning: training steps run without CUDA graphs, recording one failed: RuntimeError: operation"
    tape = Tape()
    replayed, data = made(tape, **options)
    plain, _ = made(Refusing(), **options)
    for _ in range(2):
        assert replayed.epoch(data) == plain.epoch(data)
    assert capsys.readouterr().err.startswith(said)
    assert tape.replays >= 2 and len(tape.operations) >= 1 and min(tape.operations) > 200
    assert_same(replayed, plain)


def test_each_shape_is_recorded_once_and_a_resumed_training_goes_on() -> None:
    tape, options = Tape(), {"method": "fast", "epochs": 3}
    through, data = made(tape, **options)
    losses = [through.epoch(data) for _ in range(3)]
    assert (tape.runs, len(tape.operations)) == (2 * PLAIN_CALLS, 2)  # batches of 16 and of 15 images
    assert tape.runs + tape.replays == 3 * data.steps(16)
    first, _ = made(Tape(), **options)
    assert first.epoch(data) == losses[0]
    second, _ = made(Tape(), **options)
    second.load(first.weights(), first.state())
    assert [second.epoch(data) for _ in range(2)] == losses[1:]
    assert_same(second, through)


def test_with_drop_path_every_epoch_is_recorded_anew() -> None:
    tape = Tape()
    learner, data = made(tape, method="fast", drop_path=0.4, batch_size=10)
    learner.epoch(data), learner.epoch(data)
    first, _, second, _ = tape.operations  # batches of two sizes in each epoch; the first epoch drops no paths
    assert tape.forgotten == 2 and second > first


def test_a_training_frees_its_recordings_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape()
    monkeypatch.setattr("nas.training.learner.make_recorder", lambda *_: tape)
    words = {**SMALL, "epochs": 1, "validation": 10, "validation_steps": 1}
    Trainer(TrainConfig(**words), out=tmp_path / "run").run()
    assert tape.replays > 0 and tape.forgotten == 1


def test_steps_without_graphs_on_a_cpu_learn_nearly_the_same() -> None:
    """torch's SGD has the same formula as ours, and rounds in another order."""
    ours, data = made(Tape(), method="none")
    torchs, _ = made(None, method="none")
    assert type(torchs.optimizer) is torch.optim.SGD and type(ours.optimizer) is TensorRateSGD
    ours.epoch(data), torchs.epoch(data)
    found, expected = everything(ours), everything(torchs)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_tensor_rate_sgd(momentum: float, weight_decay: float) -> None:
    torch.manual_seed(0)
    ours, torchs = (nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    unused = nn.Parameter(torch.ones(1))
    mine = TensorRateSGD([ours, unused], lr=0.5, momentum=momentum, weight_decay=weight_decay)
    theirs = torch.optim.SGD([torchs], lr=0.5, momentum=momentum, weight_decay=weight_decay)
    for rate in (0.5, 0.1, 0.01):
        gradient = torch.randn(3, 2)
        ours.grad, torchs.grad = gradient.clone(), gradient.clone()
        mine.set_rate(rate)
        theirs.param_groups[0]["lr"] = rate
        mine.step(), theirs.step()
        torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-6)
        assert torch.equal(ours.grad, gradient)
    assert torch.equal(unused, torch.ones(1)) and unused not in mine.state


def test_an_average_with_its_decay_in_a_tensor_is_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).to(memory_format=torch.channels_last)
    averages = [WeightAverage(model, 0.9, in_tensor=in_tensor) for in_tensor in (False, True)]
    for _ in range(4):
        model(torch.randn(2, 3, 8, 8))
        with torch.no_grad():
            for each in model.parameters():
                each.add_(torch.randn_like(each))
        for average in averages:
            average.count()
            average.update(model)
    assert all(torch.equal(value, averages[1].weights[name]) for name, value in averages[0].weights.items())


def test_inputs_and_outputs_are_the_callers_own() -> None:
    total = torch.zeros(2)

    def add(x: Tensor) -> tuple[Tensor, ...]:
        total.add_(x)
        return (total * 2,)

    tape = Tape()
    replayed = Replayed(add, tape, "sums", pytest.fail)
    given = [torch.full((2,), float(number)) for number in range(6)]
    found = [replayed(each)[0] for each in given]
    assert tape.runs == PLAIN_CALLS and tape.replays == 3
    assert [each[0].item() for each in found] == [0, 2, 6, 12, 20, 30] and total[0] == 15
    assert [each[0].item() for each in given] == [0, 1, 2, 3, 4, 5]
    assert replayed(torch.ones(2))[0][0] == 32  # another shape would start with plain calls
    assert tape.runs == PLAIN_CALLS


class Counted(nn.Module):
    """A user's network that reads a value back in each pass: no graph can record it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        scale = images.abs().max().item()
        logits: Tensor = self.linear(images.mean(dim=(2, 3)) / max(scale, 1e-3))
        return logits


def test_a_network_that_cannot_be_recorded_is_trained_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for recorder in (Tape(), Refusing()):
        learner, data = made(recorder, method="fast")
        torch.manual_seed(0)
        learner.model.network = Counted()
        learner.optimizer = TensorRateSGD(learner.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
        learner.average = WeightAverage(learner.model, 0.9, in_tensor=True)
        results.append((learner.epoch(data), everything(learner)))
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].endswith("operation not permitted when stream is capturing")
    assert results[0][0] == results[1][0]
    assert all(torch.equal(value, results[1][1][name]) for name, value in results[0][1].items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compile": True}, "training steps run without CUDA graphs, which --compile excludes\n"),
        (
            {"method": "fast", "gradient_alignment": 0.2},
            "training steps run without CUDA graphs, which --gradient-alignment excludes\n",
        ),
        ({"cuda_graphs": False}, ""),
    ],
)
def test_what_runs_without_graphs(options: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_recorder(TrainConfig(**{**SMALL, **options}), torch.device("cuda")) is None
    assert capsys.readouterr().err == said
    assert make_recorder(TrainConfig(**SMALL), torch.device("cpu")) is None
