from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nas.errors import Unwritable, UserError
from nas.runs import directory as runs
from nas.runs.directory import (
    MANIFEST,
    TRIALS,
    RunDirectory,
    holds_run,
    new_run_path,
    read_manifest,
)
from nas.runs.reader import read_run
from nas.runs.trials import trial_from_json, trial_to_json
from search_spaces.darts.space import DartsSpace
from searchers.base import Trial
from tests.nas.runs.stored import (
    CORRUPT,
    SPACE,
    TRIALS_OF_EACH_KIND,
    read,
    trial,
    write,
)

ROOT = Path(__file__).resolve().parents[3]


def test_trials_come_back_as_they_were(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "run", TRIALS_OF_EACH_KIND[::-1])
    assert read(path) == TRIALS_OF_EACH_KIND
    fields = list(json.loads((path / TRIALS).read_text().splitlines()[0]))
    assert fields == ["id", "key", "genotype", "seed", "status", "scores", "params", "macs", "seconds", "error"]


def test_a_darts_trial_comes_back_as_it_was() -> None:
    space = DartsSpace()
    genotype = space.parse("DARTS_V2")
    stored = Trial(
        id=0, key=space.canonical(genotype), genotype=genotype, seed=1, status="ok", scores={"x": 0.1 + 0.2}
    )  # fmt: skip
    assert trial_from_json(json.loads(json.dumps(trial_to_json(stored, space))), space) == stored


def test_appending_goes_on_behind_what_is_stored(tmp_path: Path) -> None:
    write(tmp_path, TRIALS_OF_EACH_KIND[:2])
    write(tmp_path, TRIALS_OF_EACH_KIND[2:])
    assert read(tmp_path) == TRIALS_OF_EACH_KIND


def test_genotypes_of_a_long_history_are_read_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, TRIALS_OF_EACH_KIND)
    lines = (path / TRIALS).read_text().replace(SPACE.format(TRIALS_OF_EACH_KIND[3].genotype), "no-genotype", 2)
    (path / TRIALS).write_text(lines)
    with pytest.raises(UserError, match="line 4 is not a trial"):
        read(path)
    monkeypatch.setattr(runs, "EAGER_TRIALS", 3)
    trials = read(path)
    assert trials[:3] == TRIALS_OF_EACH_KIND[:3] and trials[3].scores == {"a": 1 / 3}
    with pytest.raises(ValueError, match="no"):
        _ = trials[3].genotype
    with pytest.raises(AttributeError, match="a trial has no accuracy"):
        _ = trials[3].accuracy


def test_a_torn_last_line_is_dropped_wherever_it_was_cut(tmp_path: Path) -> None:
    content = (write(tmp_path, TRIALS_OF_EACH_KIND) / TRIALS).read_bytes()
    whole = content[:-1].rfind(b"\n") + 1
    for cut in range(whole, len(content)):
        (tmp_path / TRIALS).write_bytes(content[:cut])
        with RunDirectory(tmp_path, SPACE) as run:
            assert run.read_trials() == TRIALS_OF_EACH_KIND[:3], cut
            run.append(TRIALS_OF_EACH_KIND[3])
            assert run.read_trials() == TRIALS_OF_EACH_KIND, cut
        assert (tmp_path / TRIALS).read_bytes() == content


@pytest.mark.parametrize("line", CORRUPT.values(), ids=CORRUPT.keys())
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_corrupt_line_is_named_by_its_number(line: str, position: int, tmp_path: Path) -> None:
    lines = (write(tmp_path, [trial(5), trial(6)]) / TRIALS).read_text().splitlines()
    lines.insert(position, line)
    content = ("\n".join(lines) + "\n").encode(errors="surrogateescape")
    (tmp_path / TRIALS).write_bytes(content)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert f"{TRIALS} line {position + 1} " in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / TRIALS).read_bytes() == content  # what cannot be understood is not touched


def test_an_id_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    write(tmp_path, [trial(0), trial(1), trial(0)])
    for use in (read, read_run):
        with pytest.raises(UserError, match=f"{TRIALS} line 3: trial 0 stands there twice"):
            use(tmp_path)


def test_trials_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / TRIALS).mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_manifest_round_trip(tmp_path: Path) -> None:
    assert not holds_run(tmp_path)
    write(tmp_path, [])
    assert holds_run(tmp_path)
    assert read_manifest(tmp_path) == {"format": 1, "configuration": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a run directory: it holds no manifest.json"),
        ("", "is not JSON"),
        ('{"format": 1, "configuration"', "is not JSON"),
        ("\udcff", "is not text in UTF-8"),
        ("[" * 100_000, "is not JSON"),
        ("[]", r"manifest.json holds \[\], expected an object"),
        ('{"format": 1}', "holds no configuration"),
        ('{"format": 1, "configuration": []}', "holds no configuration"),
        ('{"format": 2, "configuration": {}}', "has format 2, expected 1"),
        ('{"configuration": {}}', "has format None, expected 1"),
    ],
)
def test_a_bad_manifest_is_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message) as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_manifest_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [])
    before = (tmp_path / MANIFEST).read_text()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with RunDirectory(tmp_path, SPACE) as run:
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", stop)
            with pytest.raises(KeyboardInterrupt):
                run.write_manifest({"configuration": {"seed": 2}})
        assert (tmp_path / MANIFEST).read_text() == before
        run.write_manifest({"configuration": {"seed": 2}})
    assert read_manifest(tmp_path)["configuration"] == {"seed": 2}
    assert sorted(each.name for each in tmp_path.iterdir()) in ([".lock", MANIFEST], [MANIFEST])


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with RunDirectory(tmp_path, SPACE) as run, open("/dev/full", "ab", buffering=0) as full:
        run._trials._file = full
        with pytest.raises(UserError, match="cannot be written: No space left"):
            run.append(trial(0))


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_trials_are_not_written_through_a_link(target: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / TRIALS).symlink_to(tmp_path / target)
    with RunDirectory(tmp_path / "run", SPACE) as run, pytest.raises(UserError, match="cannot be written"):
        run.append(trial(0))
    assert (tmp_path / "elsewhere").read_text() == "mine" and not (tmp_path / "nowhere").exists()


def test_a_short_write_is_finished(tmp_path: Path) -> None:
    class Slow:
        def __init__(self, file: Any):
            self.file = file

        def write(self, data: memoryview) -> int:
            return int(self.file.write(data[:7]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with RunDirectory(tmp_path, SPACE) as run:
        run.append(trial(0))
        run._trials._file = Slow(run._trials._file)
        run.append(trial(1))
    assert read(tmp_path) == [trial(0), trial(1)]


@pytest.mark.parametrize("name", ["file", "file/run", "x" * 300])
def test_a_directory_that_cannot_be_made_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    with pytest.raises(UserError, match="cannot be (written|read)") as error:
        assert not holds_run(path)
        RunDirectory(path, SPACE)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


HOLD = """
import sys, time
from pathlib import Path
from nas.runs.directory import RunDirectory
from search_spaces.darts.space import DartsSpace
with RunDirectory(Path(sys.argv[1]), DartsSpace()):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_cannot_write_to_the_run_until_this_one_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="is being written by another process"):
            RunDirectory(tmp_path, SPACE)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with RunDirectory(tmp_path, SPACE):
        pass


def test_the_lock_holds_within_a_process_too(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, SPACE), pytest.raises(UserError, match="is being written"):
        RunDirectory(tmp_path, SPACE)
    with RunDirectory(tmp_path, SPACE):
        pass


def test_a_new_run_has_a_name_of_its_own(tmp_path: Path) -> None:
    for name in ("run", "run-2", "run-3"):
        path = new_run_path(tmp_path, "run")
        assert path == tmp_path / name and path.is_dir()


def test_runs_that_start_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: new_run_path(tmp_path / "runs", "run"), range(24)))
    assert {path.name for path in paths} == {"run", *(f"run-{number}" for number in range(2, 25))}


def test_seconds_are_rounded(tmp_path: Path) -> None:
    stored = dataclasses.replace(trial(0), seconds=0.123456789)
    assert read(write(tmp_path, [stored]))[0].seconds == 0.123457


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: (path / TRIALS).unlink(), "was removed or replaced"),
        (lambda path: shutil.rmtree(path), "was removed or replaced"),
        (lambda path: shutil.move(path / TRIALS, path / "aside"), "was removed or replaced"),
        (lambda path: shutil.copy(path / TRIALS, path / "copy").replace(path / TRIALS), "was removed or replaced"),
        (lambda path: os.truncate(path / TRIALS, 5), "was changed while this program wrote to it: it has"),
        (lambda path: (path / TRIALS).write_text(""), "was changed while this program wrote to it: it has"),
    ],
)
def test_a_file_that_vanishes_is_noticed_when_a_line_is_added(
    harm: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    with RunDirectory(path, SPACE) as run:
        run.append(trial(0))
        run.append(trial(1))
        harm(path)
        with pytest.raises(Unwritable, match=f"{TRIALS} .*{said}"):
            run.append(trial(2))


def test_a_line_after_a_resumption_is_no_change_by_others(tmp_path: Path) -> None:
    write(tmp_path, [trial(0), trial(1)])
    with RunDirectory(tmp_path, SPACE) as run:
        assert len(run.read_trials()) == 2
        run.append(trial(2))
        run.append(trial(3))
        assert len(run.read_trials()) == 4
