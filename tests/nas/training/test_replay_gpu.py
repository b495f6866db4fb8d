"""Training steps as CUDA graphs against plain ones, on a GPU: ``make gpu``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nas.device import tf32
from nas.training import TrainConfig, Trainer
from nas.training.averaging import WeightAverage
from nas.training.learner import Learner
from nas.training.replay import CudaRecorder
from nas.training.sgd import TensorRateSGD
from tests.nas.training.test_replay import METHODS, Counted, made

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SLOW: dict[str, Any] = {"learning_rate": 0.02}  # at higher rates differences in rounding grow from step to step
# Bound of the relative difference of what two epochs change. Weights moved by 1e-6 at the start change it by 2e-6 to
# 2e-4; in bfloat16, with an attack in train mode or an auxiliary head by 3e-3 to 3e-2 (measured on a CPU). A learning
# rate, an average or noise that stays as it was recorded changes it by 2e-2 to 8e-2.
CLOSE = 5e-3
BFLOAT16 = [{**METHODS[number], "precision": "bfloat16"} for number in (1, 5, 7)]


@pytest.fixture(autouse=True)
def _comparable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One layout, and kernels that round in the same way each time."""
    monkeypatch.setattr("nas.training.learner.has_layouts", lambda _: False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with tf32(False):
        yield


def after(learner: Learner, data: Any, epochs: int = 2) -> tuple[dict[str, Tensor], list[float]]:
    """How an average (else the weights) has changed in some epochs, and the losses."""
    before = learner.weights()
    losses = [learner.epoch(data).loss for _ in range(epochs)]
    changes = {name: each - before[name] for name, each in learner.weights().items() if each.is_floating_point()}
    return changes, losses


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    difference = sum(float((one[name] - each).double().square().sum()) for name, each in other.items())
    return (difference / sum(float(each.double().square().sum()) for each in other.values())) ** 0.5


class Counting(CudaRecorder):
    recorded = 0

    def record(self, function: Any) -> Any:
        replay = super().record(function)
        self.recorded += 1
        return replay


@pytest.mark.parametrize("options", [*METHODS, *BFLOAT16], ids=str)
def test_graphs_train_as_plain_steps_do(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    options = {**options, **SLOW}
    recorder = Counting(torch.device("cuda"))
    changes, losses = after(*made(recorder, "cuda", **options))
    expected, expected_losses = after(*made(None, "cuda", cuda_graphs=False, **options))
    assert recorder.recorded >= 1 and capsys.readouterr().err == ""
    chaotic = "bfloat16" in options.values() or "train" in options.values() or "auxiliary" in options
    assert distance(changes, expected) < (0.15 if chaotic else CLOSE)
    assert losses == pytest.approx(expected_losses, rel=0.05 if chaotic else CLOSE)


def test_graphs_are_the_default_and_learn_what_the_cpu_learns() -> None:
    learner, data = made(None, "cuda", method="none", **SLOW)
    assert learner._replayed is not None and made(None, "cuda", cuda_graphs=False)[0]._replayed is None
    changes, losses = after(learner, data)
    expected, expected_losses = after(*made(None, "cpu", method="none", **SLOW))
    assert distance(changes, expected) < CLOSE and losses == pytest.approx(expected_losses, rel=CLOSE)


RESUMED = [{"method": "pgd", "attack_steps": 2, "ema": 0.9}, {"method": "fast", "drop_path": 0.4}]


@pytest.mark.parametrize("options", RESUMED, ids=str)
def test_a_training_is_resumed_in_the_middle(options: dict[str, Any], tmp_path: Path) -> None:
    words: dict[str, Any] = {
        "cell": "DARTS_V2", "channels": 2, "layers": 3, "image_size": 8, "images": 150, "validation": 20,
        "batch_size": 16, "epochs": 2, "validation_steps": 2, "device": "cuda", **SLOW, **options,
    }  # fmt: skip
    through = Trainer(TrainConfig(**words), out=tmp_path / "through").run()
    Trainer(TrainConfig(**words), out=tmp_path / "run").run(until=1)
    resumed = Trainer(TrainConfig(**words), out=tmp_path / "run", resume=True).run()
    for found, expected in zip(resumed.history, through.history, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=CLOSE)
    plain = Trainer(TrainConfig(**{**words, "cuda_graphs": False}), out=tmp_path / "plain").run()
    assert plain.history[-1]["loss"] == pytest.approx(through.history[-1]["loss"], rel=CLOSE)


def test_after_a_failed_recording_training_goes_on_and_torch_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    """Drop path, other graphs and torch's own memory management work after it."""
    found = []
    for graphs in (True, False):
        learner, data = made(None, "cuda", method="fast", cuda_graphs=graphs, **SLOW)
        torch.manual_seed(0)
        learner.model.network = Counted().cuda()
        learner.optimizer = TensorRateSGD(learner.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
        learner.average = WeightAverage(learner.model, 0.9, in_tensor=True)
        found.append(after(learner, data))
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == graphs
        assert all(each.startswith("warning: training steps run without CUDA graphs, recording") for each in lines)
    assert distance(found[0][0], found[1][0]) < CLOSE and found[0][1] == pytest.approx(found[1][1], rel=CLOSE)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.empty_cache()
    torch.manual_seed(0)
    drawn = torch.rand(3, device="cuda")
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3, device="cuda"), drawn) and not torch.equal(torch.rand(3, device="cuda"), drawn)
    recorder = Counting(torch.device("cuda"))
    after(*made(recorder, "cuda", method="fast", drop_path=0.4, **SLOW))
    assert recorder.recorded >= 2 and capsys.readouterr().err == ""


def test_a_loss_that_is_not_finite_is_found() -> None:
    from nas.errors import TrainingStopped

    learner, data = made(None, "cuda", method="none", learning_rate=1e30, gradient_clip=0.0)
    with pytest.raises(TrainingStopped, match="^(the loss|a weight) is not finite"):
        after(learner, data)


def test_the_layout_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.undo()
    state = torch.cuda.get_rng_state()
    learner, data = made(None, "cuda", method="pgd", attack_steps=2, **SLOW)
    line = capsys.readouterr().err
    assert line.startswith("memory layout ") and "times as fast as" in line
    assert torch.equal(torch.cuda.get_rng_state(), state)
    layout = torch.contiguous_format if line.startswith("memory layout contiguous") else torch.channels_last
    assert all(each.is_contiguous(memory_format=layout) for each in learner.model.parameters() if each.ndim == 4)
    assert after(learner, data)[1][0] > 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("use", [True, False])
def test_tf32_changes_the_rounding_of_products(use: bool) -> None:
    if torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this GPU has no TF32")
    a, b = (torch.rand(512, 512, device="cuda") for _ in range(2))
    with tf32(use):
        error = ((a @ b).double() / (a.double() @ b.double()) - 1).abs().max()
    assert (float(error) > 1e-5) == use
