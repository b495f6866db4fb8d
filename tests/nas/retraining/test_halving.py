"""Which cells go on, and that what they become is what training alone makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.errors import OutOfMemory, Stopped, UserError
from nas.models.checkpoint import LAST, Checkpoint, read_checkpoint
from nas.retraining.config import RetrainConfig
from nas.retraining.halving import METRIC, survivors
from nas.retraining.retrainer import Retrainer, RetrainResult
from nas.training import Trainer
from tests.nas.splits import split_of

SMALL: dict[str, Any] = {
    "channels": 2, "layers": 2, "image_size": 8, "images": 40, "validation": 60, "batch_size": 20, "epochs": 4,
    "validation_steps": 1, "threads": 1, "learning_rate": 0.05,
}  # fmt: skip


def configuration(run: Path, **changes: Any) -> RetrainConfig:
    options = {**SMALL, "run": str(run), "top": 5, "reduction_factor": 2, "executor": "local", **changes}
    return RetrainConfig(**options)


def retrained(run: Path, *, resume: bool = False, stop_after: int | None = None, **changes: Any) -> RetrainResult:
    seen = []

    def watch(number: int, epoch: dict[str, Any]) -> None:
        seen.append(number)
        if len(seen) == stop_after:
            raise KeyboardInterrupt

    return Retrainer(configuration(run, **changes), resume=resume).run(watch)


def described(result: RetrainResult) -> list[tuple[Any, ...]]:
    """What does not differ from run to run."""
    return [(cell["number"], cell["status"], cell["epochs"], cell["best"][METRIC]) for cell in result.cells]


def metrics(run: Path, number: int) -> list[dict[str, Any]]:
    lines = (run / f"retrain/cell-{number}/train/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        ({"epochs": 9, "reduction_factor": 3}, (1, 3)),
        ({"epochs": 105, "reduction_factor": 3}, (12, 36)),
        ({"epochs": 200, "reduction_factor": 3}, (23, 69)),
        ({"epochs": 20, "reduction_factor": 2.5, "grace_epochs": 1}, (1, 3, 7, 16)),
        ({"epochs": 10, "reduction_factor": 2, "grace_epochs": 2}, (2, 4, 8)),
        ({"epochs": 3, "reduction_factor": 4, "grace_epochs": 3}, ()),
        ({"epochs": 5, "reduction_factor": 1.5, "grace_epochs": 1}, (1, 2, 3, 4)),
    ],
)
def test_rungs(options: dict[str, Any], rungs: tuple[int, ...], run: Path) -> None:
    assert configuration(run, **options).rungs == rungs


@pytest.mark.parametrize(
    ("accuracies", "factor", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], 3, [False, False, False, True, True]),
        ([0.5, 0.1], 2, [True, False]),
        ([0.2, 0.2, 0.2], 4, [True, True, True]),
        ([0.0], 10, [True]),
    ],
)
def test_survivors(accuracies: list[float], factor: float, expected: list[bool]) -> None:
    assert survivors(accuracies, factor) == expected


def test_those_behind_are_stopped_and_the_best_trained_to_the_end(run: Path) -> None:
    result = retrained(run)
    racing = list(range(1, 6))
    for rung in (1, 2):
        assert all(len(metrics(run, number)) >= rung for number in racing)
        kept = survivors([metrics(run, number)[rung - 1][METRIC] for number in racing], 2)
        stopped = [number for number, goes_on in zip(racing, kept, strict=True) if not goes_on]
        assert all(len(metrics(run, number)) == rung for number in stopped)
        racing = [number for number, goes_on in zip(racing, kept, strict=True) if goes_on]
    assert {cell["number"] for cell in result.cells if cell["status"] == "finished"} == set(racing)
    assert len(racing) < 5 and result.best["number"] in racing
    assert result.best["best"][METRIC] == max(
        cell["best"][METRIC] for cell in result.cells if cell["status"] == "finished"
    )
    stored = json.loads((run / "retrain/retrain.json").read_text())
    assert sorted(stored["cells"], key=lambda cell: cell["number"]) == sorted(
        result.cells, key=lambda cell: cell["number"]
    )


def test_cells_are_the_search_s_best_in_order(run: Path) -> None:
    trials = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    by_size = sorted(trials, key=lambda trial: (-trial["params"], trial["id"]))
    cells = Retrainer(configuration(run, top=3)).cells
    assert [cell["genotype"] for cell in cells] == [trial["genotype"] for trial in by_size[:3]]
    assert len(Retrainer(configuration(run, top=50)).cells) == len({trial["key"] for trial in trials})


def test_a_cut_cell_and_a_cell_alone_have_the_same_weights(run: Path) -> None:
    result = retrained(run)
    best = result.best
    config = configuration(run).for_cell(best["space"], best["genotype"])
    alone = Trainer(config, out="alone").run()
    theirs, own = (read_checkpoint(Path(each) / "train/last.pt").weights for each in (best["run"], alone.path))
    assert theirs.keys() == own.keys() and all(torch.equal(theirs[name], own[name]) for name in own)


@pytest.mark.parametrize("stop_after", [1, 4, 9])
def test_an_interrupted_retraining_goes_on(stop_after: int, run: Path, found: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"to go on: python -m nas.retrain --resume run$"):
        retrained(run, stop_after=stop_after)
    result = retrained(run, resume=True)
    for name in (run / "retrain").rglob("metrics.jsonl"):
        epochs = [json.loads(line)["epoch"] for line in name.read_text().splitlines()]
        assert epochs == list(range(1, len(epochs) + 1))
    other = Path("other")
    other.mkdir()
    for name in ("manifest.json", "trials.jsonl"):
        (other / name).write_bytes((found / name).read_bytes())
    assert described(retrained(other)) == described(result)


def test_a_cell_that_fails_costs_no_other(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        retrained(run, stop_after=3)
    (run / "retrain/cell-2/train/last.pt").write_bytes(b"torn")
    result = retrained(run, resume=True)
    (failed,) = [cell for cell in result.cells if cell["status"] == "failed"]
    assert failed["number"] == 2 and "last.pt" in failed["error"]
    assert result.best["status"] == "finished" and result.cells[-1]["status"] in ("failed", "stopped")


def test_cells_are_not_compared_on_no_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.retraining.retrainer.training_images", lambda config: split_of(2, 2))
    with pytest.raises(UserError, match="^cells are compared on images held out, got 4 training images, of which"):
        _ = Retrainer(RetrainConfig(run=str(run), executor="local", channels=2, layers=2)).chosen


def test_nothing_that_trains_is_an_error(run: Path) -> None:
    with pytest.raises(Stopped, match=r"no cell was trained to the end; the first failed with: .*not finite"):
        retrained(run, learning_rate=1e30, top=2)


def test_the_search_may_go_on_meanwhile(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        retrained(run, stop_after=2, top=2)
    cells = json.loads((run / "retrain/retrain.json").read_text())["cells"]
    (run / "trials.jsonl").write_text("")
    assert [cell["key"] for cell in Retrainer(configuration(run, top=2), resume=True).cells] == [
        cell["key"] for cell in cells
    ]


def test_another_configuration_is_refused(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        retrained(run, stop_after=1)
    with pytest.raises(UserError, match=r"another configuration: --epochs 5 \(was 4\)"):
        retrained(run, resume=True, epochs=5, grace_epochs=1)
    with pytest.raises(UserError, match="already holds a retraining"):
        retrained(run)


def test_an_epoch_whose_checkpoint_was_not_stored_is_trained_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Checkpoint.save

    def killed(self: Checkpoint, path: Path) -> None:
        if path.name == LAST and len(self.facts["history"]) == 4:
            raise KeyboardInterrupt
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            retrained(run)
    result = retrained(run, resume=True)
    best = read_checkpoint(Path(result.best["run"]) / "train/best.pt").facts
    assert result.best["status"] == "finished" and best["epoch"] == result.best["best"]["epoch"]


@pytest.mark.parametrize(
    ("error", "stops"), [(ArithmeticError("no number [/left]"), False), (torch.OutOfMemoryError("no memory"), True)]
)
def test_an_error_of_a_cell_is_its_own_and_want_of_memory_is_not(
    error: Exception, stops: bool, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.run

    def failing(self: Trainer, *arguments: Any, **options: Any) -> Any:
        if self.out and self.out.name == "cell-1":
            raise error
        return original(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "run", failing)
    if stops:
        with pytest.raises(OutOfMemory, match="no memory; stopped .*; to go on: python -m nas.retrain --resume"):
            retrained(run)
    else:
        cells = {cell["number"]: cell for cell in retrained(run).cells}
        assert cells[1]["status"] == "failed" and cells[1]["error"] == "ArithmeticError: no number [/left]"
    monkeypatch.setattr(Trainer, "run", original)
    again = {cell["number"]: cell for cell in retrained(run, resume=True).cells}
    assert again[1]["status"] != "failed" and again[1]["error"] is None
