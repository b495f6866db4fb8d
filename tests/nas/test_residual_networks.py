"""The spaces of residual networks through every command, at sizes of a few thousand parameters."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

import nas
from nas import attack, export, search, train
from nas.images.data import load_data
from nas.training import TrainConfig
from nas.training.target import resolved
from search_spaces import get_space
from searchers import SEARCHERS, get_searcher
from tests.nas.commands import slip

ASKING = [name for name in SEARCHERS if not get_searcher(name).needs_material]
SMALL = "--channels 1 --proxy params --no-report --quiet --threads 1"


@pytest.mark.parametrize("space", ["wide_resnet", "robust_resnet"])
@pytest.mark.parametrize("searcher", ASKING)
def test_searchers_meet_a_limit_of_macs(space: str, searcher: str, tmp_path: Path) -> None:
    limits = "--max-macs 30000000 --require 'stage3.width <= 10'"
    words = f"--space {space} --searcher {searcher} --budget 30 {limits} {SMALL} --out {tmp_path / 'run'}"
    assert search.main(shlex.split(words)) == 0
    trials = [json.loads(line) for line in (tmp_path / "run/trials.jsonl").read_text().splitlines()]
    assert len(trials) == 30
    for trial in trials:
        genotype = get_space(space).parse(trial["genotype"])
        assert trial["status"] == "ok" and genotype.widths[2] <= 10
        assert trial.get("fidelity", 1) < 1 or trial["macs"] <= 30_000_000


@pytest.mark.parametrize("searcher", [name for name in SEARCHERS if name not in ASKING])
def test_there_is_no_supernet(searcher: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--space wide_resnet --searcher {searcher} --budget 1 --out {tmp_path / 'run'}"
    assert "wide_resnet" in slip(capsys, *shlex.split(words))


def test_a_proxy_of_relu_states_says_what_a_smooth_network_lacks(tmp_path: Path) -> None:
    words = "--space robust_resnet --channels 1 --proxy naswot --max-macs 2000000 --searcher random --budget 12"
    assert search.main(shlex.split(f"{words} --quiet --no-report --threads 1 --out {tmp_path / 'run'}")) == 0
    trials = [json.loads(line) for line in (tmp_path / "run/trials.jsonl").read_text().splitlines()]
    smooth = [trial for trial in trials if ".relu." not in trial["genotype"]]
    assert smooth and all("smooth activations such as SiLU" in trial["error"] for trial in smooth)
    assert all(trial["status"] == "ok" for trial in trials if trial not in smooth)


@pytest.mark.parametrize("format", ["safetensors", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_run_is_searched_trained_attacked_and_exported(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    start = "--start bottleneck.rse.silu.d1-w1.d1-w2.d1-w1 --searcher local_search"
    commands = [
        (search, f"--space robust_resnet {SMALL} --budget 1 {start} --out {{}}"),
        (train, "--channels 2 --epochs 1 --images 100 --quiet --run {}"),
        (attack, "--samples 10 --attack natural --attack fgsm --quiet --run {}"),
        (export, f"--format {format} --out {{0}}/model.{format} --run {{0}}"),
    ]
    for command, words in commands:
        assert command.main(shlex.split(words.format(run))) == 0, capsys.readouterr().err
    found = json.loads((run / "attack.json").read_text())["model"]["architecture"]
    assert (found["family"], found["channels"], found["layers"]) == ("robust_resnet", 2, None)
    images = load_data("digits").test.images[:4] / 255
    with torch.no_grad():
        assert nas.load(run)(images).shape == (4, 10)


@pytest.mark.parametrize(("preset", "channels"), [("quick", 4), ("table", 16), ("tiny_robustbench", 16)])
def test_a_preset_trains_the_published_channels_except_on_a_cpu(preset: str, channels: int) -> None:
    config = resolved(TrainConfig(space="wide_resnet", cell="WRN-28-10", preset=preset))  # type: ignore[arg-type]
    assert (config.channels, config.layers) == (channels, None)
    own = TrainConfig(space="wide_resnet", cell="WRN-28-10", preset=preset, channels=3)  # type: ignore[arg-type]
    assert resolved(own).channels == 3
