"""Runs that are gone on with, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.search import main
from tests.nas.commands import slip, timeless
from tests.nas.searching.runs import COUNT, copy_of

pytestmark = pytest.mark.usefixtures("somewhere_else")


def test_a_run_is_not_written_over(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{finished} already holds a run; pass --resume" in slip(capsys, *COUNT, "--out", str(finished))


def test_resuming_with_other_options_names_them(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "manifest.json").read_bytes()
    error = slip(
        capsys, "--resume", str(finished), "--seed", "4", "--channels", "3", "--threads", "1", "--proxy", "macs"
    )
    assert "--seed 4 (was 0)" in error and "--channels 3 (was 2)" in error and "--threads" not in error
    assert "--proxy ['macs'] (was ['params'])" in error and "--layers" not in error
    assert (finished / "manifest.json").read_bytes() == before


def test_trials_of_networks_of_another_size_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(finished, Path("run"))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["configuration"]["channels"] *= 2
    (run / "manifest.json").write_text(json.dumps(manifest))
    before = (run / "trials.jsonl").read_bytes()
    assert "its networks were of another size" in slip(capsys, "--resume", "run")
    assert (run / "trials.jsonl").read_bytes() == before


def test_resuming_takes_the_options_of_the_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(finished, Path("run"))
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    for words in (["--resume", "run"], ["--out", "run", "--resume"], ["--resume=run", "--threads", "1"]):
        (run / "trials.jsonl").write_text("".join(lines[:2]) + lines[2][:50])
        assert main([*words, "--no-report", "--quiet"]) == 0
        assert timeless(run) == timeless(finished)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[]", "holds [], expected an object"),
        ("-data", "damaged"),
        ("-hardware", "damaged"),
        ("-seconds", "damaged"),
        ('budget="many"', "--budget must be a whole number, got 'many'"),
        ('proxy=["nothing"]', "unknown proxy 'nothing'"),
        ("proxy=5", "--proxy"),
        ('dataset=null', "manifest.json is damaged: configuration.dataset None, expected a text"),
        ("layers=1e400", "manifest.json is damaged: configuration.layers inf, expected a whole number from 1"),
        ('require={"a": 1}', "run cannot be gone on with: its stored configuration: "),
        ('seed="x"', "--seed"),
    ],
)
def test_a_corrupt_manifest(content: str, part: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(finished, Path("run"))
    manifest = json.loads((run / "manifest.json").read_text())
    if content.startswith("-"):
        del manifest[content[1:]]
    if "=" in content:
        name, _, value = content.partition("=")
        manifest["configuration"][name] = json.loads(value)
    changed = content.startswith("-") or "=" in content
    (run / "manifest.json").write_text(json.dumps(manifest) if changed else content)
    error = slip(capsys, "--resume", "run")
    assert part in error, error


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (None, "line 4 is not a trial"),
        ({"id": 0}, "line 4"),
        ({"id": 500}, "the run holds a trial 500"),
        ({"scores": {}}, "has the scores none, expected params"),
        ({"key": "nonsense"}, "line 4 is not a trial"),
        ({"genotype": "Genotype(normal=[])"}, "line 4 is not a trial"),
    ],
)
def test_corrupt_trials(
    change: dict[str, Any] | None, part: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished, Path("run"))
    lines = sorted((run / "trials.jsonl").read_text().splitlines(), key=lambda line: json.loads(line)["id"])
    lines[3] = "garbage" if change is None else json.dumps({**json.loads(lines[3]), **change})
    (run / "trials.jsonl").write_text("\n".join(lines) + "\n")
    assert part in slip(capsys, "--resume", "run")


def test_a_run_of_another_history_is_left_as_it_is(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(finished, Path("run"))
    trials = sorted(map(json.loads, (run / "trials.jsonl").read_text().splitlines()), key=lambda trial: trial["id"])
    trials[1]["id"], trials[2]["id"] = 2, 1
    (run / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials[:4]) + '{"id": 4, "ke')
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    error = slip(capsys, "--resume", "run")
    assert f"trial 1 of the run is {trials[2]['key']}, expected {trials[1]['key']}" in error
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"} == before
