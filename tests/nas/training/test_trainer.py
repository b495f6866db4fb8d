"""A training from its configuration to its files, and on from any of its epochs."""

from __future__ import annotations

import json
import math
import sys
import time
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

pytestmark = pytest.mark.usefixtures("somewhere_else")

TINY: dict[str, Any] = {
    "cell": "DARTS_V2", "channels": 2, "layers": 2, "image_size": 8, "images": 60, "validation": 20, "batch_size": 16,
    "epochs": 3, "validation_steps": 2, "threads": 1,
}  # fmt: skip
# Every part that an epoch changes: momentum, the average, drop path, crops, flips, the adversary's noise.
EVERYTHING = {**TINY, "epochs": 4, "ema": 0.9, "drop_path": 0.3, "flip": True, "gradient_clip": 1.0, "method": "trades"}


def trained(out: str, **options: Any) -> Path:
    return Trainer(TrainConfig(**{**TINY, **options}), out=out).run().path


def assert_equal(a: Path, b: Path, name: str) -> None:
    """Two checkpoints that hold the same, bit for bit, but for the times."""
    ours, others = read_checkpoint(a / "train" / name), read_checkpoint(b / "train" / name)
    assert ours.weights.keys() == others.weights.keys()
    for key, value in ours.weights.items():
        assert torch.equal(value, others.weights[key]), key
    assert ours.training.keys() == others.training.keys()
    for x, y in zip(ours.training.get("momenta", ()), others.training.get("momenta", ()), strict=True):
        assert torch.equal(x, y)
    assert timeless(a) == timeless(b)


def timeless(run: Path) -> list[dict[str, Any]]:
    lines = (run / "train/metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0, "images_per_second": 0} for line in lines]


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


class Stop(Exception):
    pass


def interrupted(out: str, after: int, error: type[BaseException] = Stop, **options: Any) -> None:
    """A training that ends in the middle of the epoch that follows ``after``."""
    shares: list[float] = []

    def stop(share: float) -> None:
        shares.append(share)
        if len(shares) == 4 * after + 2:
            raise error

    with pytest.raises(error):
        Trainer(TrainConfig(**{**TINY, **options}), out=out).run(watch_step=stop)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    return Trainer(TrainConfig(**EVERYTHING), out=path).run().path


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_resumed_training_equals_one_left_alone(epochs: int, whole: Path) -> None:
    interrupted("run", epochs, **EVERYTHING)
    with open("run/train/metrics.jsonl", "a") as file:  # an epoch torn before its checkpoint was written
        file.write('{"epoch": 99, "lo')
    resumed = Trainer(TrainConfig(**EVERYTHING), out="run", resume=True)
    assert [each["epoch"] for each in resumed.run().history] == [1, 2, 3, 4]
    for name in ("best.pt", "last.pt"):
        assert_equal(whole, Path("run"), name)
    manifest = json.loads(Path("run/train/config.json").read_text())
    assert manifest["status"] == "finished" and len(manifest["resumed"]) == 1


def test_a_resumed_training_has_the_depth_it_was_begun_with() -> None:
    options = {name: value for name, value in TINY.items() if name != "layers"}
    result = Trainer(TrainConfig(**{**options, "epochs": 1}), out="run").run()
    again = Trainer(TrainConfig(**{**options, "epochs": 1}), out="run", resume=True)
    assert again.config.layers == 4 and again.run().history == result.history


def test_a_training_killed_and_resumed_equals_one_left_alone(whole: Path) -> None:
    words = [
        f"--{name.replace('_', '-')}={'true' if value is True else value}"
        for name, value in {**EVERYTHING, "out": "run"}.items()
    ]
    training = process(*words, start=("-m", "nas.train"))
    deadline = time.monotonic() + 120
    while not Path("run/train/last.pt").exists():
        if training.poll() is not None or time.monotonic() > deadline:
            training.kill()
            raise AssertionError(training.communicate()[1])
        time.sleep(0.01)
    training.kill()
    training.communicate()
    status = json.loads(Path("run/train/config.json").read_text())["status"]
    assert status == "running" and 1 <= len(timeless_lines()) < 4
    assert main(["--resume", "run", "--quiet"]) == 0
    for name in ("best.pt", "last.pt"):
        assert_equal(whole, Path("run"), name)


def timeless_lines() -> list[str]:
    return [line for line in Path("run/train/metrics.jsonl").read_text().splitlines() if line.endswith("}")]


def test_a_finished_training_resumed_stays_as_it_is(whole: Path) -> None:
    trained("run", epochs=1)
    before = Path("run/train/last.pt").read_bytes()
    result = Trainer(TrainConfig(**{**TINY, "epochs": 1}), out="run", resume=True).run()
    assert len(result.history) == 1 and Path("run/train/last.pt").read_bytes() == before


def test_an_interruption_says_how_to_go_on() -> None:
    with pytest.raises(
        KeyboardInterrupt, match=r"after 1 of 3 epochs; to go on: python -m nas.train --resume 'my run'"
    ):
        interrupted_by_hand("my run")
    assert json.loads(Path("my run/train/config.json").read_text())["status"] == "interrupted"


def interrupted_by_hand(out: str) -> None:
    def stop(epoch: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    Trainer(TrainConfig(**TINY), out=out).run(watch=stop)


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


def test_graphs_may_change_when_a_training_is_resumed_and_tf32_may_not() -> None:
    interrupted("run", 1)
    seen: list[bool] = []

    def watch(_: Any) -> None:
        seen.append(torch.backends.cuda.matmul.allow_tf32)

    Trainer(TrainConfig(**TINY, cuda_graphs=False), out="run", resume=True).run(watch)
    Trainer(TrainConfig(**TINY, tf32=True, cuda_graphs=True), out="other").run(watch)
    assert seen == [False] * 3 + [True] * 3 and TrainConfig(**TINY).cuda_graphs
    assert_equal(Path("run"), Path("other"), "last.pt")  # neither has an effect on a CPU
    with pytest.raises(UserError, match=r"with another configuration: --tf32 None \(was True\)$"):
        Trainer(TrainConfig(**TINY), out="other", resume=True).run()


def test_a_network_without_paths_is_refused_before_its_first_epoch() -> None:
    with pytest.raises(UserError, match=r"^--drop-path 0\.2: this network has no paths to drop$"):
        Learner(
            TrainConfig(**{**TINY, "drop_path": 0.2}),
            Architecture(family="resnet18", classes=("a", "b"), image_size=(8, 8)), "cpu",
        )  # fmt: skip


def test_only_one_process_writes() -> None:
    seen: list[str] = []

    def other(epoch: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="being written by another process"):
            Trainer(TrainConfig(**TINY), out="run", resume=True).run()
        seen.append("refused")

    Trainer(TrainConfig(**TINY), out="run").run(other)
    assert len(seen) == 3


@pytest.mark.parametrize("content", [b"", b"damaged", None], ids=["empty", "text", "shortened"])
def test_a_damaged_checkpoint_is_refused(content: bytes | None) -> None:
    interrupted("run", 1)
    last = Path("run/train/last.pt")
    last.write_bytes(last.read_bytes()[:-2000] if content is None else content)
    with pytest.raises(UserError, match="last.pt"):
        Trainer(TrainConfig(**TINY), out="run", resume=True).run()


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_checkpoint_that_vanished_is_missed(name: str) -> None:
    interrupted("run", 1)
    Path("run/train", name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing, although 1 epochs were finished"):
        Trainer(TrainConfig(**TINY), out="run", resume=True).run()


def test_other_images_are_refused() -> None:
    interrupted("run", 1)
    path = Path("run/train/config.json")
    manifest = json.loads(path.read_text())
    for name, value in (("fingerprint", "0"), ("classes", ["a", "b"]), ("image_size", [9, 9])):
        path.write_text(json.dumps({**manifest, "data": {**manifest["data"], name: value}}))
        with pytest.raises(UserError, match=f"cannot resume run with other images: {name} is"):
            Trainer(TrainConfig(**TINY), out="run", resume=True).run()


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
