"""A search whose machine fails under it: memory, files that vanish, a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas.files
from nas import Search
from nas.errors import MachineFailed, OutOfMemory, Unwritable
from nas.runs.directory import RunDirectory
from nas.search import main
from proxies.base import Probe, Proxy
from searchers.base import Trial
from tests.nas.commands import timeless
from tests.nas.searching.runs import COUNT, copy_of

pytestmark = pytest.mark.usefixtures("somewhere_else")


class Hungry(Proxy):
    """The parameters; memory suffices for ``enough`` networks."""

    name = "hungry"
    direction = "maximize"
    cost = "count"

    def __init__(self, enough: int = 10**9):
        self.left = [enough]

    def score(self, probe: Probe) -> float:
        self.left[0] -= 1
        if self.left[0] < 0:
            raise MemoryError("no room")
        return float(probe.params)


def search(proxy: Proxy, resume: bool = False, **options: Any) -> Search:
    return Search(
        "darts", "random", proxy, out="run", resume=resume, report=False, channels=2, layers=2, budget=25, seed=3,
        threads=1, **options,
    )  # fmt: skip


def test_want_of_memory_interrupts_the_search_and_leaves_no_trace_in_it() -> None:
    with pytest.raises(OutOfMemory) as error:
        search(Hungry(13)).run()
    assert str(error.value) == (
        "memory does not suffice for candidate 13 alone: MemoryError: no room; stopped after 13 of 25 candidates;"
        " to go on: python -m nas.search --resume run"
    )
    assert json.loads(Path("run/manifest.json").read_text())["status"] == "interrupted"
    assert {trial["status"] for trial in timeless(Path("run"))} == {"ok"}
    search(Hungry(), resume=True).run()
    resumed = timeless(Path("run"))
    shutil.rmtree("run")
    search(Hungry()).run()
    assert timeless(Path("run")) == resumed and len(resumed) == 25


def test_a_resumed_search_may_leave_out_what_is_too_large() -> None:
    with pytest.raises(OutOfMemory):
        search(Hungry(20)).run()
    result = search(Hungry(2), resume=True, skip_oversized=True).run()
    assert [trial.status for trial in result.trials] == ["ok"] * 22 + ["failed"] * 3


def test_stored_failures_of_an_earlier_version_are_told(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(finished, Path("old"))
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    lines.sort(key=lambda line: line["id"])  # threads finish in any order
    lines[2] |= {"status": "failed", "scores": {}, "error": "RuntimeError: could not create a primitive"}
    (run / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(["--resume", str(run), "--quiet", "--no-report"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: 1 stored trials, the first of them 2, failed because the machine lacked something")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "harm", [lambda: Path("run/trials.jsonl").unlink(), lambda: shutil.rmtree("run")], ids=["trials.jsonl", "run"]
)
def test_a_run_removed_under_the_search_ends_it(harm: Callable[[], None]) -> None:
    def watch(trial: Trial[Any]) -> None:
        if trial.id == 3:
            harm()

    with pytest.raises(Unwritable, match="run/trials.jsonl was removed or replaced while this program wrote to it"):
        search(Hungry()).run(watch)
    if Path("run").exists():
        assert json.loads(Path("run/manifest.json").read_text())["status"] == "interrupted"


def no_space(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("everything", [False, True])
def test_a_full_disk_is_one_line_and_can_be_resumed(everything: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    append = RunDirectory.append

    def filling(self: RunDirectory[Any], trial: Trial[Any]) -> None:
        if trial.id == 4:
            if everything:
                patch.setattr(nas.files.os, "fsync", no_space)
            with nas.files.writing("trials.jsonl"):
                no_space()
        append(self, trial)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append", filling)
        with pytest.raises(Unwritable) as error:
            search(Hungry()).run()
    assert "trials.jsonl cannot be written: No space left on device; stopped after 4 of 25" in str(error.value)
    status = json.loads(Path("run/manifest.json").read_text())["status"]
    assert status == ("running" if everything else "interrupted")


def test_an_error_that_is_not_the_machine_s_is_a_failure() -> None:
    def watch(trial: Trial[Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(Hungry()).run(watch)
    assert json.loads(Path("run/manifest.json").read_text())["status"] == "failed"


def test_threads_that_cannot_start_are_the_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(trial: Trial[Any]) -> None:  # as the progress bar's
        raise RuntimeError("can't start new thread")

    with pytest.raises(MachineFailed, match="can't start new thread; stopped after 1 of 25 candidates"):
        search(Hungry()).run(watch)


def test_a_report_that_cannot_be_written_warns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(path: Path, content: str) -> None:
        with nas.files.writing(path):
            no_space()

    monkeypatch.setattr("nas.report.write", write)
    words = [word for word in COUNT if word not in ("--no-report", "--quiet")]
    assert main([*words, "--out", "run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["report"] is None
    assert err == "warning: run/report.html cannot be written: No space left on device\n"
