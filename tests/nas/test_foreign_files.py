"""A file that a command did not write is not replaced by it, and is named before any work is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import experiments.correlation.__main__ as correlation
import nas.attack
import nas.export
import nas.retrain
import nas.search
import nas.train
import nas.transfer
from tests.nas.commands import slip
from tests.nas.trained_networks import trained_checkpoint

pytestmark = pytest.mark.usefixtures("somewhere_else")

SEARCH = "--proxy params --budget 2 --population 2 --tournament 1 --channels 2 --layers 3 --no-report --quiet --out"
TRAIN = "--cell DARTS_V2 --channels 2 --layers 2 --image-size 8 --images 40 --epochs 1 --out out"
ATTACK = "--samples 10 --attack natural --quiet"
COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "search": (nas.search.main, f"{SEARCH} out"),
    "train": (nas.train.main, TRAIN),
    "retrain": (nas.retrain.main, "--run run --executor local --top 2 --epochs 1 --image-size 8"),
    "attack": (nas.attack.main, f"--checkpoint model.pt {ATTACK} --out out"),
    "transfer": (
        nas.transfer.main, "--model a=model.pt --model b=model.pt --samples 10 --attack fgsm --quiet --out out"
    ),
    "export": (nas.export.main, "--checkpoint model.pt --format safetensors --out out/model.safetensors"),
    "correlation": (correlation.main, "--data-dir nowhere --out out"),
}  # fmt: skip
FILES = [
    *(("search", f"out/{name}") for name in ("best.json", "front.json", "report.html", "searcher.pt", "manifest.json")),
    ("search", "out/trials.jsonl"),
    *(("train", f"out/train/{name}") for name in ("best.pt", "last.pt", "metrics.jsonl", "config.json")),
    *(("retrain", f"run/retrain/{name}") for name in ("retrain.json", "cell-1/failed.json", "cell-2/mine", "ray/mine")),
    ("attack", "out/attack.json"),
    ("attack", "out/attack-samples.jsonl"),
    *(("transfer", f"out/transfer.{kind}") for kind in ("json", "csv", "png")),
    ("export", "out/model.safetensors"),
    *(("correlation", f"out/correlation.{kind}") for kind in ("json", "csv", "png")),
    *(("correlation", f"out/{name}") for name in ("table.md", "manifest.json", "scores.jsonl")),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    assert nas.search.main([*SEARCH.split(), str(folder / "run")]) == 0
    trained_checkpoint(folder / "model.pt", epochs=0)
    return folder


@pytest.mark.parametrize(("command", "file"), FILES)
@pytest.mark.parametrize("content", ["mine", "{}"])
def test_it_is_named_and_kept(
    command: str, file: str, content: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(content)
    main, words = COMMANDS[command]
    before = sorted(path for path in Path().rglob("*") if not path.name.endswith(".lock"))
    error = slip(capsys, *words.split(), main=main)
    assert any(str(path) in error for path in (Path(file), Path(file).parent, Path(file).parents[1])), error
    assert Path(file).read_text() == content
    assert sorted(path for path in Path().rglob("*") if not path.name.endswith(".lock")) == before


@pytest.mark.parametrize("command", ["attack", "transfer", "export"])
def test_what_the_command_wrote_itself_is_replaced(
    command: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    Path("out").mkdir()
    main, words = COMMANDS[command]
    for _ in range(2):
        assert main(words.split()) == 0


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_an_export_is_known_again(format: str, made: Path) -> None:
    pytest.importorskip("onnxscript")
    for _ in range(2):
        assert nas.export.main(["--checkpoint", str(made / "model.pt"), "--format", format, "--out", "model"]) == 0


@pytest.mark.parametrize(
    "number", ["/../../../ESCAPED", "../x", -1, 0, 1.5, 10**400, None, [1]], ids=lambda number: str(number)[:9]
)
def test_a_cell_s_number_is_no_path(number: object, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    cell = {"number": number, "key": "k", "space": "darts", "genotype": "DARTS_V2", "scores": {}}
    Path("run/retrain").mkdir()
    Path("run/retrain/retrain.json").write_text(
        json.dumps({"format": 1, "command": "retrain", "configuration": {"run": "run"}, "cells": [cell]})
    )
    error = slip(capsys, "--resume", "run", main=nas.retrain.main)
    assert "run/retrain/retrain.json is damaged: cells[0].number " in error and ", expected a " in error
    assert not Path("/ESCAPED").exists() and [each.name for each in Path("run/retrain").iterdir()] == ["retrain.json"]
