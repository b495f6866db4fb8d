"""One run directory through all commands: search, train, attack, export."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

import nas
from nas import attack, export, search, train
from nas.images.data import load_data
from nas.training.presets import PRESETS, QUICK_DIGITS
from tests.nas.commands import slip


@pytest.mark.parametrize("space", ["darts", "darts10_imagenet", "robnet"])
def test_a_run_is_searched_trained_attacked_and_exported(
    space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    images_and_size = "--images 200" if space == "darts" else "--images 40 --image-size 8"
    commands = [
        (search, f"--channels 2 --layers 2 --proxy params --budget 4 --space {space} --quiet --no-report --out {{}}"),
        (train, f"--channels 4 --layers 2 --epochs 1 {images_and_size} --quiet --run {{}}"),
        (attack, "--samples 20 --attack natural --attack pgd-7 --quiet --run {}"),
        (export, "--format safetensors --out {0}/model.safetensors --run {0}"),
    ]
    for command, words in commands:
        assert command.main(shlex.split(words.format(run))) == 0, capsys.readouterr().err
    best = json.loads((run / "best.json").read_text())
    found = json.loads((run / "attack.json").read_text())
    assert found["model"]["architecture"]["genotype"] == best["genotype"]
    assert found["images"]["dataset"] == "digits" and found["images"]["samples"] == 20
    images = load_data("digits").test.images[:4] / 255
    with torch.no_grad():
        assert torch.equal(nas.load(run)(images), nas.load(run / "model.safetensors")(images))


def test_a_search_may_go_on_to_a_robust_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "quick", {**PRESETS["quick"], "channels": 4, "layers": 2})
    monkeypatch.setitem(QUICK_DIGITS, "epochs", 1)
    monkeypatch.setattr(search, "QUICK_SAMPLES", 50)
    words = (
        f"--channels 2 --layers 2 --proxy params --budget 4 --quiet --no-report --train quick --out {tmp_path / 'run'}"
    )
    assert search.main(shlex.split(words)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Genotype(") and said[1].endswith("best.pt") and said[2].startswith("natural")
    found = json.loads((tmp_path / "run/attack.json").read_text())
    assert [each["attack"] for each in found["attacks"]] == ["natural", "FGSM", "PGD-20"]
    resumed = f"--resume {tmp_path / 'run'} --quiet --no-report --train quick"
    assert search.main(shlex.split(resumed)) == 0  # nothing is done twice
    assert capsys.readouterr().out.splitlines() == said


def test_a_table_has_no_images_to_train_on(capsys: pytest.CaptureFixture[str]) -> None:
    said = slip(capsys, *shlex.split("--table nas_robbench_201 --metric cifar10/autoattack --train quick"))
    assert "--train has no use with --table" in said
