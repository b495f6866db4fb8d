"""One run directory through all commands: search, train, attack, export."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

import nas
from nas import attack, export, search, train
from nas.data import load_data


def test_a_run_is_searched_trained_attacked_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    commands = [
        (search, "--channels 2 --layers 2 --proxy params --budget 4 --quiet --no-report --out {}"),
        (train, "--channels 4 --layers 2 --epochs 1 --images 200 --quiet --run {}"),
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
