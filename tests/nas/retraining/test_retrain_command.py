"""``python -m nas.retrain`` as a user meets it."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path

import pytest

import nas
from nas.retrain import main
from nas.retraining.config import RetrainConfig
from nas.retraining.retrainer import chosen_cells
from tests.nas import commands

slip = partial(commands.slip, main=main)
SMALL = shlex.split(
    "--executor local --top 3 --channels 2 --layers 2 --image-size 8 --images 40 --validation 20 --batch-size 20"
    " --epochs 2 --validation-steps 1 --threads 1"
)


def test_the_table_names_the_best_and_how_to_attack_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "run", *SMALL]) == 0
    out, err = capsys.readouterr()
    stored = {cell["number"]: cell for cell in json.loads(Path("run/retrain/retrain.json").read_text())["cells"]}
    best, model, attack = out.splitlines()[-3:]
    number = int(best.split()[2].rstrip(":"))
    assert best == f"best:   cell {number}: {stored[number]['genotype']}"
    assert model == f"model:  run/retrain/cell-{number}" and attack.endswith(
        f"nas.attack --run run/retrain/cell-{number}"
    )
    assert stored[number]["status"] == "finished" and "robust" in err
    assert "training 3 cells, 2 channels, 2 layers on 40 images of digits (20 held out): fast, 2 epochs\n" in err
    assert next(nas.load(f"run/retrain/cell-{number}").parameters()).isfinite().all()
    rows = [line for line in out.splitlines() if "finished" in line or "stopped" in line]
    assert len(rows) == 3 and "finished" in rows[0] and f" {number} " in rows[0]


def test_a_cell_that_failed_is_told_whatever_is_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "run", *SMALL, "--quiet"]) == 0
    (run / "retrain/cell-1/train/last.pt").write_text("junk")
    capsys.readouterr()
    assert main(["--resume", "run", "--quiet"]) == 0
    assert "warning: cell-1 failed: " in capsys.readouterr().err


def test_json_and_quiet_and_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "run", *SMALL, "--json"]) == 0
    out, err = capsys.readouterr()
    cells = json.loads(out)["cells"]
    assert err == "" and cells[0]["status"] == "finished"
    assert main(["--resume", "run", "--quiet"]) == 0  # nothing is done twice
    assert capsys.readouterr() == (cells[0]["run"] + "\n", "")
    Path("run").rename("moved")
    assert "--resume moved and --run run name two runs" in slip(capsys, "--resume", "moved", "--run", "run")
    assert main(["--resume", "moved", "--quiet"]) == 0
    assert capsys.readouterr().out == cells[0]["run"].replace("run/", "moved/", 1) + "\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("", "expected --run RUN"),
        ("--run nowhere", "nowhere is not a run directory"),
        ("--run run --top 0", "--top must be at least 1, got 0"),
        ("--run run --reduction-factor 1", "--reduction-factor must be above 1, got 1"),
        ("--run run --epochs 3 --grace-epochs 4", "--grace-epochs must be at most --epochs (3), got 4"),
        ("--run run --validation 0", "--validation must be above 0, got 0"),
        ("--run run --executor threads", "--executor must be ray or local, got threads"),
        ("--run run --executor local --workers 2", "--workers has no use without --executor ray"),
        ("--run run --workers 0", "--workers must be at least 1, got 0"),
        ("--run run --gpus-per-worker 0.5 --device cpu", "--gpus-per-worker 0.5 has no use with --device cpu"),
        ("--run run --cell DARTS_V2", "unknown option '--cell'"),
        ("--run run --executor local --method pdg", "--method must be"),
        ("--run run --executor local --images 9999999", "--images 9999999"),
        ("--run run --executor local --image-size 4", "needs images of at least 8x8 pixels, got 4x4"),
        ("--run run --resume", "run holds no retraining to go on with"),
        ("--resume run", "run holds no retraining to go on with"),
        ("--run run --method none", "--method none has no use here"),
        ("--run run --executor local --device cpu --precision bfloat16", "--precision bfloat16 needs cuda"),
        ("--run run --address 127.0.0.1:1", "no Ray cluster can be joined at 127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line(words: str, part: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in slip(capsys, *shlex.split(words))
    assert not Path("run/retrain/retrain.json").exists()


def test_a_search_without_scores(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "trials.jsonl").write_text("")
    assert "run holds no cell with a score" in slip(capsys, "--run", "run")


def test_a_damaged_manifest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "run", *SMALL, "--quiet"]) == 0
    path = run / "retrain/retrain.json"
    whole = json.loads(path.read_text())
    for damage in ({"cells": []}, {"cells": [{"number": 1}]}, {"cells": "none"}):
        path.write_text(json.dumps({**whole, **damage}))
        assert "damaged" in slip(capsys, "--resume", "run")


def test_the_cells_of_the_front_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = nas.Search(
        "darts", "random", objective=["params", "macs", "conv_count"], budget=12, channels=2, layers=2, out="run",
        report=False,
    ).run()  # fmt: skip
    front = [trial.id for trial in found.front]

    def chosen(top: int | None) -> list[int]:
        return [cell["id"] for cell in chosen_cells(Path("run"), RetrainConfig(run="run", front=True, top=top))]

    assert chosen(None) == chosen(100) == front and len(front) > 3
    few = chosen(3)
    assert len(few) == 3 and found.best.id in few and few == [each for each in front if each in few]
    assert main(["--run", "run", *SMALL, "--front"]) == 0
    assert [cell["id"] for cell in json.loads(Path("run/retrain/retrain.json").read_text())["cells"]] == few
    assert main(["--resume", "run", "--quiet"]) == 0
    Path("run/front.json").rename("front.json")
    Path("run/retrain").rename("retrain")
    assert "run holds no front.json, expected that of a finished search" in slip(capsys, "--run", "run", "--front")
