"""A training from its configuration to its files, and on from any of its epochs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from nas.errors import TrainingStopped, UserError
from nas.models.architecture import Architecture
from nas.models.checkpoint import read_checkpoint
from nas.train import main
from nas.training import TrainConfig, Trainer, learner
from nas.training.learner import Learner
from tests.nas.commands import process
from tests.nas.training.small import TINY, assert_equal, timeless, trained

pytestmark = pytest.mark.usefixtures("somewhere_else")


def test_what_a_training_leaves() -> None:
    seen: list[dict[str, Any]] = []
    shares: list[float] = []
    before = torch.random.get_rng_state(), torch.get_num_threads()
    result = Trainer(TrainConfig(**TINY), out="run").run(seen.append, shares.append)
    assert torch.equal(torch.random.get_rng_state(), before[0]) and torch.get_num_threads() == before[1]
    assert [each["epoch"] for each in result.history] == [1, 2, 3] and seen == result.history
    assert shares == 3 * [0.25, 0.5, 0.75, 1.0]
    assert [json.loads(line) for line in Path("run/train/metrics.jsonl").read_text().splitlines()] == seen
    manifest = json.loads(Path("run/train/config.json").read_text())
    assert manifest["status"] == "finished" and manifest["configuration"]["method"] == "fast"
    assert manifest["data"]["train_images"] == 60 and manifest["data"]["validation_images"] == 20
    assert manifest["summary"] == {"epochs": 3, "best": result.best}
    assert {"torch", "nas-robust"} & set(manifest["versions"]) and manifest["hardware"]["device"] == "cpu"
    assert list(Path("run/train").glob("events.out.tfevents.*"))
    last = read_checkpoint(Path("run/train/last.pt"))
    best = read_checkpoint(Path("run/train/best.pt"))
    assert best.facts["epoch"] == result.best["epoch"] and not best.training and last.training
    assert best.architecture.genotype.startswith("Genotype(") and best.architecture.classes[3] == "3"
    assert nas.load("run")(torch.rand(2, 3, 8, 8)).shape == (2, 10)


def test_the_best_epoch_is_the_most_robust(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.training import course
    from nas.training.metrics import Accuracy

    measured = [Accuracy(0.5, 0.2), Accuracy(0.4, 0.3), Accuracy(0.6, 0.3), Accuracy(0.6, 0.3), Accuracy(0.9, 0.1)]
    for method, expected in (("fast", 3), ("none", 5)):
        calls = iter(measured)
        monkeypatch.setattr(course, "accuracy", lambda *_, calls=calls: next(calls))
        result = Trainer(TrainConfig(**{**TINY, "epochs": 5, "images": 16}, method=method), out=method).run()
        assert result.best["epoch"] == expected
        assert read_checkpoint(result.checkpoint).facts["epoch"] == expected


def test_without_validation_the_last_epoch_counts() -> None:
    result = Trainer(TrainConfig(**{**TINY, "validation": 0, "epochs": 2}), out="run").run()
    assert result.best["epoch"] == 2 and "validation_accuracy" not in result.best
    assert_equal_weights("run/train/best.pt", "run/train/last.pt")


def assert_equal_weights(a: str, b: str) -> None:
    ours, others = read_checkpoint(Path(a)).weights, read_checkpoint(Path(b)).weights
    assert all(torch.equal(value, others[key]) for key, value in ours.items())


def test_the_seed_decides_everything_and_global_state_nothing() -> None:
    one = trained("1", epochs=2)
    torch.rand(7)
    assert_equal(one, trained("2", epochs=2), "last.pt")
    other = trained("3", epochs=2, seed=1)
    assert timeless(other) != timeless(one)


@pytest.mark.parametrize("look_every", [1, 3, 50])
def test_a_loss_that_is_not_finite_stops_at_its_step(look_every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = Learner.step, []

    def poisoned(self: Learner, *arguments: Any) -> Any:
        calls.append(1)
        loss, logits = step(self, *arguments)
        return (loss * math.nan if len(calls) == 6 else loss), logits

    monkeypatch.setattr(Learner, "step", poisoned)
    monkeypatch.setattr(learner, "LOOK_EVERY", {"cpu": look_every})
    with pytest.raises(TrainingStopped) as error:
        Trainer(TrainConfig(**TINY), out="run").run()
    assert "not finite at epoch 2, step 2 of 4" in str(error.value)
    assert "of epoch 1, is run/train/last.pt" in str(error.value)
    assert read_checkpoint(Path("run/train/last.pt")).facts["epoch"] == 1
    assert json.loads(Path("run/train/config.json").read_text())["status"] == "failed"


def test_logits_of_held_out_images_that_are_not_finite_stop_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = Learner.epoch

    def poisoned(self: Learner, *arguments: Any) -> Any:
        found = epoch(self, *arguments)
        monkeypatch.setattr(self.model.network, "forward", wrong(self.model.network.forward), raising=False)
        return found

    def wrong(forward: Any) -> Any:  # of the changed images only, in the last batch
        seen: list[int] = []

        def forwarded(images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            logits: torch.Tensor = forward(images)
            return logits.index_fill(0, torch.tensor(3), math.inf) if len(seen) == 4 else logits

        return forwarded

    monkeypatch.setattr(Learner, "epoch", poisoned)
    expected = r"^logits are not finite: inf, .* for held-out image 3 \(PGD-2\); no epoch "
    with pytest.raises(TrainingStopped, match=expected):
        Trainer(TrainConfig(**TINY), out="run").run()
    assert json.loads(Path("run/train/config.json").read_text())["status"] == "failed"


def test_a_weight_that_is_not_finite_stops_a_training_without_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Learner.step

    def poisoned(self: Learner, *arguments: Any) -> Any:
        found = step(self, *arguments)
        next(self.model.parameters()).data[0] = math.nan
        return found

    monkeypatch.setattr(Learner, "step", poisoned)
    with pytest.raises(TrainingStopped, match="^a weight is not finite after epoch 1; no epoch was finished"):
        Trainer(TrainConfig(**{**TINY, "validation": 0, "batch_size": 60}), out="run").run()
    assert not Path("run/train/best.pt").exists()


@pytest.mark.parametrize(
    "options", [{"auxiliary": 0.4}, {"method": "trades", "auxiliary": 0.4}, {"attack_mode": "train"}]
)
def test_three_images_in_batches_of_two(options: dict[str, Any]) -> None:
    """The auxiliary head's batch norm sees maps of one pixel, of which one image alone has no variance."""
    small = {"image_size": 32, "images": 3, "validation": 0, "batch_size": 2, "epochs": 1, "layers": 3}
    result = Trainer(TrainConfig(**{**TINY, **small, **options}), out="run").run()
    assert math.isfinite(result.history[0]["loss"]) and (result.train_images, result.validation_images) == (3, 0)


def test_a_network_without_paths_is_refused_before_its_first_epoch() -> None:
    with pytest.raises(UserError, match=r"^--drop-path 0\.2: this network has no paths to drop$"):
        Learner(
            TrainConfig(**{**TINY, "drop_path": 0.2}),
            Architecture(family="resnet18", classes=("a", "b"), image_size=(8, 8)), "cpu",
        )  # fmt: skip


def test_the_average_is_what_is_measured_and_stored() -> None:
    config = TrainConfig(**{**TINY, "ema": 0.99, "epochs": 1})
    Trainer(config, out="run").run()
    checkpoint = read_checkpoint(Path("run/train/last.pt"))
    own = checkpoint.training["average"]["own"]
    assert any(not torch.equal(value, own[name]) for name, value in checkpoint.weights.items())
    assert own.keys() == checkpoint.weights.keys()
    assert_equal_weights("run/train/best.pt", "run/train/last.pt")


def test_a_training_learns() -> None:
    config = TrainConfig(
        cell="DARTS_V2", channels=4, layers=2, image_size=8, images=500, validation=100, epochs=5, batch_size=16,
        learning_rate=0.1, crop=False, epsilon="4/255", threads=1,
    )  # fmt: skip
    best = Trainer(config, out="run").run().best
    assert best["validation_accuracy"] > 0.6 and best["validation_robust_accuracy"] > 0.45


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, nas.train\n"
        "try: nas.train.main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'torchattacks', 'torchvision', 'tensorboardX') if m in sys.modules])"
    )
    out, err = process(start=("-c", program)).communicate()
    assert out.splitlines()[-1] == "[]", err


def test_trains_without_tensorboard(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in {**TINY, "epochs": 1, "out": "run"}.items()]
    assert main(words) == 0
    assert "no TensorBoard events: tensorboardX is not installed" in capsys.readouterr().out
    assert not list(Path("run/train").glob("events*"))
