from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.errors import UserError
from nas.runs.searcher_state import read_state, write_state

STATE: dict[str, Any] = {
    "weights": torch.arange(3.0), "moments": [torch.zeros(2), None], "steps": 7, "by_name": {"a": (1.5, True, "x")},
}  # fmt: skip


GOOD: dict[str, Any] = {"format": 2, "trials": 1, "covers": "", "state": {}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path / "searcher.pt", {}, 0, "")
    write_state(tmp_path / "searcher.pt", STATE, 20, "abc")
    state, trials, covers = read_state(tmp_path / "searcher.pt")
    assert (trials, covers) == (20, "abc") and list(state) == list(STATE)
    assert torch.equal(state["weights"], STATE["weights"]) and torch.equal(state["moments"][0], torch.zeros(2))
    assert (state["moments"][1], state["steps"], state["by_name"]) == (None, 7, {"a": (1.5, True, "x")})
    assert [path.name for path in tmp_path.iterdir()] == ["searcher.pt"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": np.zeros(2)}, r"state\['a'\] must be a tensor or a plain value, got ndarray"),
        ({"a": [1, {"b": Path()}]}, r"state\['a'\]\[1\]\['b'\] must be .*, got PosixPath"),
        ({np.int64(3): 1}, "a key of the searcher's state must be .*, got int64"),
        ({"a": {1, 2}}, "got set"),
    ],
)
def test_anything_else_is_refused_before_it_is_written(state: dict[Any, Any], message: str, tmp_path: Path) -> None:
    write_state(tmp_path / "searcher.pt", STATE, 1, "abc")
    with pytest.raises(TypeError, match=message):
        write_state(tmp_path / "searcher.pt", state, 2, "abc")
    assert read_state(tmp_path / "searcher.pt")[1] == 1


class Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


@pytest.mark.parametrize(
    "content",
    [b"", b"no file of torch", pickle.dumps({"format": 1, "trials": 1, "state": {}}), pickle.dumps(Evil())],
    ids=["empty", "text", "pickle", "program"],
)
def test_a_file_of_another_kind_is_refused_and_not_executed(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "searcher.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"searcher\.pt (is not a searcher's state, or is truncated|is refused)"):
        read_state(tmp_path / "searcher.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        [1], {**GOOD, "format": 1}, {**GOOD, "trials": -1}, {**GOOD, "trials": True}, {**GOOD, "trials": 10**400},
        {**GOOD, "covers": 3}, {**GOOD, "state": [2]}, {"format": 2, "trials": 1, "state": {}},
        {"format": torch.ones(2)},
    ],
    ids=str,
)  # fmt: skip
def test_other_values_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "searcher.pt")
    with pytest.raises(UserError, match=r"holds no searcher's state of format 2"):
        read_state(tmp_path / "searcher.pt")


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path / "searcher.pt", STATE, 20, "abc")
    whole = (tmp_path / "searcher.pt").read_bytes()
    for length in (1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "searcher.pt").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"is not a searcher's state, or is truncated"):
            read_state(tmp_path / "searcher.pt")


def test_a_file_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "searcher.pt").mkdir()
    with pytest.raises(UserError, match=r"searcher\.pt cannot be written"):
        write_state(tmp_path / "searcher.pt", STATE, 1, "abc")
    with pytest.raises(UserError, match=r"searcher\.pt cannot be read"):
        read_state(tmp_path / "searcher.pt")
