"""A training that goes on from any of its epochs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.errors import UserError
from nas.train import main
from nas.training import TrainConfig, Trainer
from tests.nas.commands import process
from tests.nas.training.small import EVERYTHING, TINY, assert_equal, interrupted, trained

pytestmark = pytest.mark.usefixtures("somewhere_else")


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
