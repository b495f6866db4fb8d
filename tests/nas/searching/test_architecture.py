"""The steps of a supernet in the run directory: written once each, whenever the process ends."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import Search, SearchResult, UserError
from nas.errors import SearchStopped
from nas.report import write_report
from nas.runs.architecture import read_steps
from nas.runs.directory import RunDirectory
from nas.runs.searcher_state import read_state
from nas.search import main
from tests.nas.commands import process
from tests.nas.report.pages import check_page

BUDGET = 4
OPTIONS: dict[str, Any] = {
    "budget": BUDGET, "channels": 4, "layers": 3, "threads": 1, "search_images": 16, "batch_size": 8, "epochs": 3,
    "architecture_learning_rate": 0.1,
}  # fmt: skip


def search(path: Path, **options: Any) -> SearchResult:
    return Search("nasbench201", "darts", "params", out=path, **{**OPTIONS, "report": False, **options}).run()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search(tmp_path_factory.mktemp("architecture") / "whole", report=True).path


def contents(path: Path) -> tuple[Any, ...]:
    trials = [{**json.loads(line), "seconds": 0} for line in (path / "trials.jsonl").read_text().splitlines()]
    state, *about = read_state(path / "searcher.pt")
    network = state["training"]["supernet"]
    numbers = torch.cat([network[name].double().flatten() for name in sorted(network)]).tolist()
    return trials, (path / "architecture.jsonl").read_text(), state["records"], about, numbers


def test_each_epoch_leaves_a_line(whole: Path) -> None:
    steps = read_steps(whole)
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert steps == read_state(whole / "searcher.pt")[0]["records"]
    assert all(len(step["weights"]["cell"]) == 6 and 0 < step["entropy"] < 1.61 for step in steps)


def test_tensorboard_reads_the_steps(whole: Path) -> None:
    loader = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = (whole / "architecture").glob("events*")
    content, values = path.read_bytes(), []
    while content:  # each record: length in 8 bytes, 4 of its checksum, the event, 4 of its checksum
        size = int.from_bytes(content[:8], "little")
        event = loader.Event.FromString(content[12 : 12 + size])
        values += [(event.step, value) for value in event.summary.value]
        content = content[16 + size :]
    found = {step: value.simple_value for step, value in values if value.tag == "entropy"}
    assert found == {step["step"]: pytest.approx(step["entropy"]) for step in read_steps(whole)}
    assert {value.tag for _, value in values} >= {"cell", "skip_connections", "train_loss", "valid_accuracy"}


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_ended_at_any_write_it_continues_identically(
    number: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """The end of a process."""

    def count(write: Any) -> Any:
        def counted(*arguments: Any) -> None:
            if next(left, None) is None:
                raise Killed
            write(*arguments)

        return counted

    left, path = iter(range(number)), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        for name in ("append", "write_state"):
            patch.setattr(RunDirectory, name, count(getattr(RunDirectory, name)))
        search(path)
    search(path, resume=True)
    assert contents(path) == contents(whole)


PROGRAM = """
import os, signal
from nas.runs.directory import RunDirectory
from tests.nas.searching.test_architecture import search
from pathlib import Path
write = RunDirectory.write_state
def kill(self, state, count, covers):
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, state, count, covers)
RunDirectory.write_state = kill
search(Path("run"))
"""


@pytest.mark.usefixtures("somewhere_else")
def test_kill_9_and_resume_equals_no_resume(whole: Path) -> None:
    started = process(start=("-c", PROGRAM))
    started.communicate()
    assert started.returncode == -9
    path = Path("run")
    assert len(read_steps(path)) == 2 and len(read_state(path / "searcher.pt")[0]["records"]) == 1
    search(path, resume=True)
    assert contents(path) == contents(whole)


def test_the_page_shows_the_steps(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    check_page(page)
    assert "The architecture weights" in page and "The cell derived after step 3" in page
    assert re.search(r'aria-label="Entropy of the architecture weights and skip connections', page)
    assert "collapsed:" not in page


def test_a_collapse_is_said_at_the_end_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from searchers.bilevel import Bilevel

    def settled(self: Bilevel, number: int) -> dict[str, float]:
        with torch.no_grad():
            self.architecture[0][:4, 1] = 9.0  # skip_connect
            self.architecture[0][4:, 3] = 9.0
        return {}

    monkeypatch.setattr(Bilevel, "epoch", settled)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    run = tmp_path / "run"
    assert main(["--space", "nasbench201", "--searcher", "darts", "--proxy", "params", "--out", str(run), *words]) == 0
    said = "collapsed: 4 of 6 edges of the cell derived after step 3 are skip connections"
    assert said in capsys.readouterr().out.splitlines() and said in (run / "report.html").read_text()


def test_a_training_that_diverges_stops_the_search(tmp_path: Path) -> None:
    with pytest.raises(SearchStopped, match=r"the loss of the supernet is not finite in epoch \d; a lower --learning"):
        search(tmp_path / "run", learning_rate=1e30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skip_connections": -1}, "skip_connections -1, expected a whole number from 0"),
        ({"weights": {"cell": [["x"]]}}, r"weights\['cell'\]\[0\]\[0\] 'x', expected a finite number"),
    ],
)
def test_a_damaged_line_is_named(change: dict[str, Any], message: str, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    first, second, *_ = read_steps(path)
    (path / "architecture.jsonl").write_text("".join(json.dumps(step) + "\n" for step in (first, {**second, **change})))
    with pytest.raises(UserError, match=rf"architecture\.jsonl line 2 is no step: {message}"):
        write_report(path)
    before = {name: (path / name).read_bytes() for name in os.listdir(path) if (path / name).is_file()}
    with pytest.raises(UserError, match="line 2 is no step"):
        search(path, resume=True)
    assert before == {name: (path / name).read_bytes() for name in os.listdir(path) if (path / name).is_file()}


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "architecture.jsonl").write_text("mine\n")
    with pytest.raises(UserError, match=r"architecture\.jsonl"):
        search(tmp_path)
    assert (tmp_path / "architecture.jsonl").read_text() == "mine\n"
