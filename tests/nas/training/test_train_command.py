"""``python -m nas.train`` as a user meets it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import nas.search
from nas.models.checkpoint import read_checkpoint
from nas.train import main
from nas.training import TrainConfig, Trainer
from tests.nas import commands
from tests.nas.commands import process

pytestmark = pytest.mark.usefixtures("somewhere_else")

slip = partial(commands.slip, main=main)

SMALL = shlex.split("--image-size 8 --images 40 --validation 20 --batch-size 20 --epochs 2 --validation-steps 1")
CELL = [*shlex.split("--cell DARTS_V2 --channels 2 --layers 2"), *SMALL]


@pytest.fixture(scope="module")
def search_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search on another space than the default."""
    path = tmp_path_factory.mktemp("search") / "run"
    words = "--space nasbench201 --searcher random --proxy params --budget 2 --channels 2 --no-report --quiet --out"
    assert nas.search.main([*words.split(), str(path)]) == 0
    return path


def test_trains_the_best_cell_of_a_run(search_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(search_run), "--channels", "2", "--layers", "3", *SMALL]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("best epoch: ") and "robust validation accuracy" in lines[0]
    assert lines[1] == f"model:      {search_run / 'train/best.pt'}" and len(lines) == 2
    assert "images/s" in err and "robust" in err
    stored = read_checkpoint(search_run / "train/best.pt").architecture
    assert stored.family == "nasbench201"
    assert stored.genotype == json.loads((search_run / "best.json").read_text())["genotype"]
    assert "already holds a training; pass --resume" in slip(capsys, "--run", str(search_run), *SMALL)
    assert main(["--run", str(search_run), "--resume", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("file", "changes", "part"),
    [
        ("best.json", {"key": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"}, "are of different cells"),
        ("best.json", {"genotype": "x"}, "'x'"),
        ("best.json", {"params": 10**400}, "best.json"),
        ("manifest.json", {"command": "correlation"}, "holds no search, but 'correlation'"),
        ("manifest.json", {"seconds": "long"}, "manifest.json is damaged: seconds 'long', expected a number from 0"),
        ("manifest.json", {"configuration": {"space": "nasbench201", "dataset": None}}, "dataset None, expected"),
    ],
)
def test_a_damaged_search_is_one_line(
    file: str, changes: dict[str, Any], part: str, search_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(search_run, "run", ignore=shutil.ignore_patterns("train"))
    content = json.loads(Path("run", file).read_text())
    Path("run", file).write_text(json.dumps({**content, **changes}))
    assert part in slip(capsys, "--run", "run", *SMALL)
    assert not Path("run/train").exists()


def test_json_and_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CELL, "--json", "--out", "run"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == "" and result["checkpoint"] == "run/train/best.pt" and len(result["history"]) == 2
    assert (result["train_images"], result["validation_images"]) == (40, 20)
    assert main([*CELL, "--quiet"]) == 0
    assert capsys.readouterr() == ("runs/train-darts-cell-fast-seed0/train/best.pt\n", "")
    assert main([*CELL, "--quiet"]) == 0
    assert capsys.readouterr().out == "runs/train-darts-cell-fast-seed0-2/train/best.pt\n"


def test_the_numbers_of_images_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--cell DARTS_V2 --channels 2 --layers 2 --image-size 8 --epochs 1 --validation-steps 1 --out run"
    assert main(words.split()) == 0
    out, err = capsys.readouterr()
    assert "on 1,298 images of digits (144 held out): fast, 1 epoch" in err
    assert "on the 144 images held out" in out.splitlines()[0]
    stored = json.loads(Path("run/train/config.json").read_text())
    assert (stored["data"]["train_images"], stored["data"]["validation_images"]) == (1298, 144)
    assert main(["--resume", "run", "--quiet"]) == 0


def test_a_training_begun_with_a_number_of_its_preset_goes_on() -> None:
    """Earlier versions stored the preset's number."""
    assert main([*CELL, "--quiet", "--out", "run"]) == 0
    begun = Trainer(TrainConfig(cell="DARTS_V2", image_size=8, images=40, batch_size=20, epochs=2, validation_steps=1),
                    out="run", resume=True)  # fmt: skip
    assert begun.config.validation == 20 and len(begun.run().history) == 2


def test_a_printed_configuration_can_be_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*CELL, "--epsilon", "4/255", "--milestones", "1", "--schedule", "multistep", "--flip", "true"]
    with pytest.raises(SystemExit):
        main([*words, "--print_config"])
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["epsilon"] == "4/255" and yaml.safe_load(text)["flip"] is True
    Path("run.yaml").write_text(text)
    assert main(["--config", "run.yaml", "--out", "1", "--quiet"]) == 0
    assert main(["--config", "1/train/config.json", "--out", "2", "--quiet"]) == 0
    configurations = [json.loads(Path(f"{run}/train/config.json").read_text())["configuration"] for run in "12"]
    assert configurations[0] == configurations[1]
    assert configurations[0]["epsilon"] == 4 / 255 and configurations[0]["milestones"] == [1]
    weights = [read_checkpoint(Path(f"{run}/train/last.pt")).weights for run in "12"]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ["expected one of --run, --cell, --model, got none"]),
        ("--cell DARTS_V2 --model resnet18", ["got --cell and --model"]),
        ("--run run --cell DARTS_V2 --model resnet18", ["got --run and --cell and --model"]),
        ("--cell DARTS_V3", ["'DARTS_V3'", "did you mean DARTS_V2 or DARTS_V1"]),
        ("--cell 'Genotype(normal=[])'", ["part 'normal_concat' is missing"]),
        ("--cell DARTS_V2 --space dart", ["unknown search space 'dart'", "did you mean darts or darts10"]),
        ("--model resnet", ["unknown model 'resnet'", "did you mean resnet18"]),
        ("--model resnet18 --channels 8", ["--channels has no use with --model resnet18"]),
        ("--model resnet18 --drop-path 0.1", ["--drop-path has no use with --model resnet18"]),
        ("--run missing", ["missing is not a run directory"]),
        ("--run empty", ["empty is not a run directory"]),
        ("--run unfinished", ["unfinished holds no best.json", "not finished"]),
        ("--run odd", ["odd/best.json", "holds no genotype"]),
        ("--cell DARTS_V2 --dataset cifar", ["unknown data set 'cifar'", "did you mean cifar10"]),
        ("--cell DARTS_V2 --dataset cifar10 --data-dir missing", ["'cifar10'", "'missing'", "--download"]),
        ("--cell DARTS_V2 --preset quik", ["--preset must be quick or tiny_robustbench or table, got quik"]),
        ("--cell DARTS_V2 --method pdg", ["--method must be pgd or trades or mart or fast or none, got pdg"]),
        ("--cell DARTS_V2 --step-size 2", ["--step-size must be from 0 to 1, got 2", "in pixel units"]),
        ("--cell DARTS_V2 --step-size 0", ["--step-size must be above 0, got 0"]),
        ("--cell DARTS_V2 --images 1 --validation 0", ["--images 1 and --validation 0 need 2 training images"]),
        ("--cell DARTS_V2 --image-size 1000000", ["--image-size must be at most 100000, got 1000000"]),
        ("--cell DARTS_V2 --epsilon 1.5", ["--epsilon must be from 0 to 1, got 1.5"]),
        ("--cell DARTS_V2 --epsilon=-8/255", ["--epsilon must be from 0 to 1, got -0.03"]),
        ("--cell DARTS_V2 --epsilon 8/0", ["--epsilon must be a number or a fraction such as 8/255, got '8/0'"]),
        ("--cell DARTS_V2 --epsilon eight", ["--epsilon", "8/255", "'eight'"]),
        ("--cell DARTS_V2 --epsilon nan", ["--epsilon must be a finite number, got nan"]),
        ("--cell DARTS_V2 --epochs 0", ["--epochs must be at least 1, got 0"]),
        ("--cell DARTS_V2 --epochs many", ["--epochs must be a whole number, got many"]),
        ("--cell DARTS_V2 --batch-size 1", ["--batch-size must be at least 2, got 1"]),
        ("--cell DARTS_V2 --channels 0", ["--channels must be at least 1, got 0"]),
        ("--cell DARTS_V2 --layers 0", ["--layers must be at least 1, got 0"]),
        ("--cell '|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|' --space nasbench201 --layers 4",
         ["layers must be a multiple of 3"]),
        ("--cell DARTS_V2 --method pgd --attack-steps 0", ["--attack-steps must be at least 1, got 0"]),
        ("--cell DARTS_V2 --method fast --attack-steps 3", ["--attack-steps must be 1 with --method fast, got 3"]),
        ("--cell DARTS_V2 --method none --attack-steps 3", ["--attack-steps has no use with --method none"]),
        ("--cell DARTS_V2 --trades-beta 3", ["--trades-beta has no use with --method fast, it belongs to trades"]),
        ("--cell DARTS_V2 --method mart --label-smoothing 0.1", ["--label-smoothing has no use with --method mart"]),
        ("--cell DARTS_V2 --milestones 3", ["--milestones has no use with --schedule one_cycle"]),
        ("--cell DARTS_V2 --preset table --milestones 300", ["--milestones must be from 1 to --epochs (200), got 300"]),
        ("--cell DARTS_V2 --preset table --milestones soon", ["--milestones must be epochs", "'soon'"]),
        ("--cell DARTS_V2 --learning-rate 0", ["--learning-rate must be above 0, got 0"]),
        ("--cell DARTS_V2 --momentum 1", ["--momentum must be below 1, got 1"]),
        ("--cell DARTS_V2 --ema 1.5", ["--ema must be below 1, got 1.5"]),
        ("--cell DARTS_V2 --validation 0.999", ["--validation 0.999", "got 1442"]),
        ("--cell DARTS_V2 --validation 2.5", ["--validation must be a whole number or a share below 1, got 2.5"]),
        ("--cell DARTS_V2 --images 1400", ["--images 1400 and 144 held out need 1544 training images, got 1442"]),
        ("--cell DARTS_V2 --images 1", ["--images 1"]),
        ("--cell DARTS_V2 --image-size 4", ["needs images of at least 8x8 pixels, got 4x4"]),
        ("--cell DARTS_V2 --image-size 16 --auxiliary 0.4", ["auxiliary head", "at least 29x29 pixels, got 16x16"]),
        ("--cell DARTS_V2 --seed -1", ["--seed", "-1"]),
        ("--cell DARTS_V2 --precision bfloat16 --device cpu", ["--precision bfloat16 needs cuda, got --device cpu"]),
        ("--cell DARTS_V2 --device gpu", ["--device must be cpu, cuda, cuda:N or auto, got 'gpu'"]),
        ("--cell DARTS_V2 --flip maybe", ["--flip must be true or false, got maybe"]),
        ("--cell DARTS_V2 --epochz 3", ["unknown option '--epochz'", "did you mean --epochs"]),
        ("--cell DARTS_V2 --out file", ["file"]),
        ("--cell DARTS_V2 --resume", ["--resume needs the run directory"]),
        ("--resume unfinished", ["unfinished holds no training to go on with", "unfinished/train/config.json"]),
        ("--run unfinished --resume", ["unfinished holds no training to go on with"]),
        ("--resume one --out two", ["one", "two", "expected one"]),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_input_is_one_line(words: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    manifest = {"format": 1, "configuration": {"space": "darts"}}
    for name in ("empty", "unfinished", "odd"):
        Path(name).mkdir()
    for name in ("unfinished", "odd"):
        Path(name, "manifest.json").write_text(json.dumps(manifest))
    Path("odd/best.json").write_text('{"id": 0}')
    error = slip(capsys, *shlex.split(words))
    assert all(part in error for part in parts), error
    assert sorted(os.listdir()) == ["empty", "file", "odd", "unfinished"]  # and nothing was begun


def test_resuming_with_other_options_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CELL, "--quiet", "--out", "run"]) == 0
    error = slip(capsys, "--resume", "run", "--seed", "4", "--epsilon", "0", "--channels", "3", "--threads", "1")
    assert "--seed 4 (was 0)" in error and "--channels 3 (was 2)" in error and "--epsilon 0.0 (was 0.03" in error
    assert "--threads" not in error and "--layers" not in error
    assert "--cell PDARTS (was DARTS_V2)" in slip(capsys, "--out", "run", "--resume", "--cell", "PDARTS")
    assert main(["--out", "run", "--resume", "--threads", "1", "--quiet"]) == 0


def test_the_manifest_tells_what_is_trained() -> None:
    words = ["--cell", "DARTS_V2", *SMALL, "--channels", "2", "--preset", "tiny_robustbench", "--out", "run"]
    assert main([*words, "--attack-steps", "1", "--quiet"]) == 0
    configuration = json.loads(Path("run/train/config.json").read_text())["configuration"]
    expected: dict[str, Any] = {
        "method": "pgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "layers": 8, "attack_steps": 1,
        "epsilon": 8 / 255, "flip": False, "crop": True, "milestones": [1], "space": "darts",
    }  # fmt: skip
    assert {name: configuration[name] for name in expected} == expected


def test_an_interrupted_training_says_how_to_go_on() -> None:
    training = process(*CELL, "--epochs", "500", "--out", "my run", start=("-m", "nas.train"))
    deadline = time.monotonic() + 120
    while not Path("my run/train/last.pt").exists():
        assert training.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    training.send_signal(signal.SIGTERM)
    out, err = training.communicate(timeout=60)
    assert training.returncode == 130 and out == "" and "Traceback" not in err, err
    assert "of 500 epochs; to go on: python -m nas.train --resume 'my run'" in err
    assert json.loads(Path("my run/train/config.json").read_text())["status"] == "interrupted"


def test_a_training_that_stops_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CELL, "--learning-rate", "1e30", "--epochs", "3", "--schedule", "cosine", "--out", "run"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the loss is not finite at epoch ") and "--learning-rate" in error
