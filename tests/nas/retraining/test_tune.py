"""Cells as trials of a real Ray Tune."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler

from nas.models.checkpoint import read_checkpoint
from nas.retraining.halving import METRIC
from nas.retraining.retrainer import Retrainer
from nas.retraining.tune import know
from nas.training import Trainer
from tests.nas.commands import process
from tests.nas.executors.conftest import ray_processes
from tests.nas.retraining.test_halving import configuration, metrics

RAY: dict[str, Any] = {"executor": "ray", "workers": 2, "top": 3}


def check(run: Path, cells: list[dict[str, Any]], name: str = "alone") -> None:
    """Nothing was done twice, and the best cell is what training alone makes of it."""
    assert any(cell["status"] == "finished" for cell in cells)
    for cell in cells:
        assert cell["status"] in ("finished", "stopped"), cell
        epochs = [epoch["epoch"] for epoch in metrics(run, cell["number"])]
        assert epochs == list(range(1, cell["epochs"] + 1))
        assert cell["status"] == "finished" or cell["epochs"] in (1, 2)  # the rungs
    alone = Trainer(configuration(run).for_cell(cells[0]["space"], cells[0]["genotype"]), out=name).run()
    theirs, own = (read_checkpoint(Path(each) / "train/last.pt").weights for each in (cells[0]["run"], alone.path))
    assert all(torch.equal(theirs[name], own[name]) for name in own)


def workers() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"ray::ImplicitFunc" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_killed_worker_costs_nothing(run: Path) -> None:
    killed: list[int] = []

    def watch(number: int, epoch: dict[str, Any]) -> None:
        if not killed:
            killed.extend(workers())
            for each in killed:
                os.kill(each, signal.SIGKILL)

    result = Retrainer(configuration(run, **RAY)).run(watch)
    assert killed
    check(run, result.cells)
    for cell in result.cells:
        status = json.loads((Path(cell["run"]) / "train/config.json").read_text())["status"]
        assert (status == "finished") == (cell["status"] == "finished")
        assert (Path(cell["run"]) / "cut").exists() == (cell["status"] == "stopped")
    assert not (run / "retrain/ray").exists()
    assert Retrainer(configuration(run, **RAY), resume=True).run().cells == result.cells  # nothing is left to do
    assert json.loads((run / "retrain/retrain.json").read_text())["versions"]["ray"]


def begun() -> subprocess.Popen[str]:
    """A retraining that has just finished an epoch."""
    words = shlex.split(
        "--run run --top 3 --workers 2 --reduction-factor 2 --channels 2 --layers 2 --image-size 8 --images 40"
        " --validation 60 --batch-size 20 --epochs 4 --validation-steps 1 --threads 1 --learning-rate 0.05"
    )
    driver = process(*words, start=("-m", "nas.retrain"))
    deadline = time.monotonic() + 120
    while not list(Path("run").glob("retrain/cell-*/train/metrics.jsonl")) and time.monotonic() < deadline:
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)
    return driver


def test_a_killed_driver_goes_on(run: Path) -> None:
    driver = begun()
    driver.kill()
    driver.communicate(timeout=60)
    again = process("--resume", "run", "--json", start=("-m", "nas.retrain"))
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    check(run, json.loads(out)["cells"])


@pytest.mark.parametrize("end", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupted_driver_leaves_nothing_behind(end: signal.Signals, run: Path) -> None:
    before = ray_processes()
    driver = begun()
    driver.send_signal(end)
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130, err
    assert err.splitlines()[-1].endswith("to go on: python -m nas.retrain --resume run")
    deadline = time.monotonic() + 30
    while ray_processes() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not ray_processes() - before


def test_asha_is_told_of_cells_that_ended_before() -> None:
    def history(*accuracies: float) -> list[dict[str, Any]]:
        return [{"epoch": number, METRIC: each} for number, each in enumerate(accuracies, start=1)]

    def decisions(known: bool, *accuracies: float) -> list[str]:
        scheduler = ASHAScheduler(
            time_attr="epoch", metric=METRIC, mode="max", max_t=9, grace_period=1, reduction_factor=3
        )
        if known:
            know(scheduler, {1: history(0.5, 0.6, 0.7), 2: history(0.1), 3: history(0.2)})
        trial = Trial("none", stub=True)
        scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
        return [scheduler.on_trial_result(None, trial, each) for each in history(*accuracies)]  # type: ignore[arg-type]

    assert decisions(False, 0.3, 0.3, 0.3) == ["CONTINUE"] * 3  # the first one of all always goes on
    assert decisions(True, 0.15) == ["STOP"]
    assert decisions(True, 0.45, 0.5, 0.65) == ["CONTINUE", "CONTINUE", "STOP"]


def test_ray_goes_on_with_what_this_process_began(run: Path) -> None:
    def stop(number: int, epoch: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Retrainer(configuration(run, top=2)).run(stop)
    config = configuration(run, **{**RAY, "top": 2})
    check(run, Retrainer(config, resume=True).run().cells)
