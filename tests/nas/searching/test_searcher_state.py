"""A searcher that keeps a state beside the trials, in a process that ends at any moment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import searchers
from nas import Search, SearchResult, UserError
from nas.runs.directory import RunDirectory
from nas.runs.searcher_state import read_state
from nas.searching.state import KeptState
from searchers.base import Searcher
from tests.nas.commands import process
from tests.searchers.learner import Learner
from tests.searchers.toy_space import ToySpace

BUDGET, STEP = 10, 4  # the last step is shorter
WRITES = BUDGET + 3  # one for each trial, one for each step


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(searchers.SEARCHERS, "learner", ("tests.searchers.learner", "Learner"))


def search(path: Path, **options: Any) -> SearchResult:
    words = {"budget": BUDGET, "candidates_per_step": STEP, "report": False, "threads": 1, **options}
    return Search(ToySpace(), "learner", "params", out=path, **words).run()


def history(path: Path) -> list[dict[str, Any]]:
    lines = (path / "trials.jsonl").read_text().splitlines()
    return sorted(({**json.loads(line), "seconds": 0} for line in lines), key=lambda trial: trial["id"])


def same_state(one: Path, other: Path) -> bool:
    (first, *about), (second, *others) = (read_state(path / "searcher.pt") for path in (one, other))
    return about == others and first["plain"] == second["plain"] and torch.equal(first["weight"], second["weight"])


def killed_before_write(number: int, path: Path) -> None:
    """A search whose process ends before it writes a trial or a state for the ``number``-th time."""
    left = iter(range(number))

    def count(write: Any) -> Any:
        def counted(*arguments: Any) -> None:
            if next(left, None) is None:
                raise Killed
            write(*arguments)

        return counted

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        for name in ("append", "write_state"):
            patch.setattr(RunDirectory, name, count(getattr(RunDirectory, name)))
        search(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(searchers.SEARCHERS, "learner", ("tests.searchers.learner", "Learner"))
        return search(tmp_path_factory.mktemp("state") / "whole").path


def test_the_state_lies_beside_the_trials(whole: Path) -> None:
    assert (whole / "searcher.pt").exists() and not (whole / "searcher.pt.tmp").exists()
    content = torch.load(whole / "searcher.pt", weights_only=True)
    assert content["trials"] == BUDGET and set(content["state"]) == {"weight", "plain"}
    assert content["state"]["plain"] == {"asks": 3}


def test_the_state_decides_on_the_history(whole: Path, tmp_path: Path) -> None:
    """Or the other tests would pass with a state that is lost."""
    other = search(tmp_path / "run", learning_rate=0.25).path
    assert history(other)[:STEP] == history(whole)[:STEP] and history(other)[STEP:] != history(whole)[STEP:]


@pytest.mark.parametrize("number", range(WRITES))
def test_ended_at_any_write_it_continues_identically(number: int, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed_before_write(number, path)
    (path / "searcher.pt.tmp").write_bytes(b"half a file")
    search(path, resume=True)
    assert history(path) == history(whole) and same_state(path, whole)


@pytest.mark.parametrize("second", [1, 3, STEP, STEP + 1])
def test_ended_twice_it_continues_identically(second: int, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed_before_write(STEP, path)  # all trials of a step are stored, its state is not
    left = iter(range(second))

    def write(self: Any, *arguments: Any, write: Any = RunDirectory.append) -> None:
        if next(left, None) is None:
            raise Killed
        write(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunDirectory, "append", write)
        search(path, resume=True)
    search(path, resume=True)
    assert history(path) == history(whole) and same_state(path, whole)


PROGRAM = """
import os, searchers
from nas.runs.directory import RunDirectory
from tests.nas.searching.test_searcher_state import search
from pathlib import Path
searchers.SEARCHERS["learner"] = ("tests.searchers.learner", "Learner")
write = RunDirectory.write_state
RunDirectory.write_state = lambda self, *state: os._exit(9) if state[1] == 8 else write(self, *state)
search(Path("run"))
"""


@pytest.mark.usefixtures("somewhere_else")
def test_a_process_that_dies_between_trials_and_state_loses_nothing(whole: Path) -> None:
    started = process(start=("-c", PROGRAM))
    _, err = started.communicate()
    assert started.returncode == 9, err
    path = Path("run")
    assert len(history(path)) == 8 and read_state(path / "searcher.pt")[1] == 4
    search(path, resume=True)
    assert history(path) == history(whole) and same_state(path, whole)


def test_a_trial_that_the_state_covers_is_not_learned_from_again(whole: Path, tmp_path: Path) -> None:
    made: list[Learner] = []
    begin = Learner.__init__

    def remembered(self: Learner, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        made.append(self)

    path = tmp_path / "run"
    killed_before_write(STEP + 1 + 2, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "__init__", remembered)
        search(path, resume=True)
    assert made[-1].restored == STEP and made[-1].learned == list(range(STEP, BUDGET))


def test_without_its_state_a_run_is_asked_for_again_from_the_start(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed_before_write(WRITES - 3, path)
    (path / "searcher.pt").unlink()
    search(path, resume=True)
    assert history(path) == history(whole) and same_state(path, whole)


def test_a_state_that_covers_more_trials_than_there_are_is_refused(tmp_path: Path) -> None:
    path = search(tmp_path / "run").path
    lines = (path / "trials.jsonl").read_text().splitlines(keepends=True)
    (path / "trials.jsonl").write_text("".join(lines[:6]))
    with pytest.raises(UserError, match="the searcher's state covers 10 trials, of which the run holds 6"):
        search(path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 8}, "is the state of another search, or of other trials than the first 8"),
        ({"trials": 7}, "covers 7 trials, expected a multiple of 4"),
        ({"covers": "0" * 64}, "is the state of another search"),
        ({"state": {"weight": torch.zeros(2)}}, "is no state of Learner: KeyError 'plain'"),
        ({"state": {"weight": torch.zeros(2), "plain": 5}}, "is no state of Learner: TypeError"),
    ],
    ids=["fewer trials", "no whole steps", "other trials", "a part is missing", "a part is of another kind"],
)
def test_a_state_that_the_search_cannot_have_written_is_refused(
    changes: dict[str, Any], message: str, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    content = torch.load(path / "searcher.pt", weights_only=True)
    torch.save({**content, **changes}, path / "searcher.pt")
    before = contents(path)
    with pytest.raises(UserError, match=rf"searcher\.pt.* {message}"):
        search(path, resume=True)
    assert contents(path) == before


def test_the_state_of_another_search_is_refused(whole: Path, tmp_path: Path) -> None:
    path = search(tmp_path / "run", seed=1).path
    shutil.copy(whole / "searcher.pt", path)
    with pytest.raises(UserError, match=r"searcher\.pt is the state of another search"):
        search(path, seed=1, resume=True)


def test_a_state_that_is_not_plain_is_refused_when_it_is_first_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "state_dict", lambda self: {"weight": Path()})
    with pytest.raises(UserError, match=r"state_dict\(\) of the searcher learner cannot be stored: .* got PosixPath"):
        search(tmp_path / "run")
    assert len(history(tmp_path / "run")) == STEP


def test_a_trial_of_another_seed_is_refused(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    lines = [{**trial, "seed": 5} if trial["id"] == 3 else trial for trial in history(path)]
    (path / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="trial 3 of the run has the seed 5, expected"):
        search(path, resume=True)


def contents(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir() if each.is_file()}


def test_a_searcher_without_a_state_refuses_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"budget": 3, "report": False, "out": tmp_path / "run"}
    Search(ToySpace(), "random", "params", **options).run()
    assert not (tmp_path / "run" / "searcher.pt").exists()
    search = Search(ToySpace(), "random", "params", **options, resume=True)
    with RunDirectory(tmp_path / "run", ToySpace()) as run:
        KeptState(run, search.config).write({"weight": 1.0}, run.read_trials(), 3)
    with pytest.raises(UserError, match=r"searcher\.pt is no state of RandomSearch: RandomSearch keeps no"):
        search.run()


def test_a_state_is_restored_before_any_trial_is_told() -> None:
    searcher: Searcher[Any] = searchers.get_searcher("learner")(ToySpace(), seed=0, objectives=None)
    searcher.told = 3
    with pytest.raises(ValueError, match="before any trial is told, got it after 3"):
        searcher.restore({}, 3)
