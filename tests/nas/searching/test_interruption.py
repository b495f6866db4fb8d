"""``python -m nas.search`` in processes that end before they are done."""

from __future__ import annotations

import json
import random
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nas.search import main
from tests.nas.commands import lines_in, process, slip, timeless

pytestmark = pytest.mark.usefixtures("somewhere_else")

LONG = shlex.split(
    "--searcher regularized_evolution --population 10 --tournament 3 --channels 2 --layers 2 --ntk-images 10"
    " --curvature-images 2 --budget 40 --seed 2 --threads 2 --no-report --candidates-per-step 7"
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main([*LONG, "--quiet", "--out", str(path)]) == 0
    assert len(timeless(path)) == 40
    return path


def begun(path: Path, lines: int, **options: Any) -> subprocess.Popen[str]:
    """A search that has just finished some trials."""
    search = process(*LONG, "--out", str(path), **options)
    deadline = time.monotonic() + 120
    while lines_in(path / "trials.jsonl") < lines:
        if search.poll() is not None or time.monotonic() > deadline:
            search.kill()
            raise AssertionError(search.communicate()[1])
        time.sleep(0.002)
    return search


def resumed_until_done(path: Path, kills: int, rng: random.Random) -> None:
    for _ in range(kills):
        stored = lines_in(path / "trials.jsonl")
        search = process("--resume", str(path), "--quiet", "--no-report")
        while lines_in(path / "trials.jsonl") <= stored + rng.randrange(4) and search.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.1)
        search.kill()
        search.communicate()
    assert main(["--resume", str(path), "--quiet", "--no-report"]) == 0


def test_a_search_killed_and_resumed_equals_one_left_alone(uninterrupted: Path) -> None:
    rng = random.Random(0)
    search = begun(Path("run"), 3)
    time.sleep(rng.random() * 0.1)
    search.kill()
    search.communicate()
    before = (Path("run") / "trials.jsonl").read_bytes()
    assert 3 <= before.count(b"\n") < 40
    resumed_until_done(Path("run"), 1, rng)
    after = (Path("run") / "trials.jsonl").read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])  # nothing finished was lost or written again
    assert timeless(Path("run")) == timeless(uninterrupted)
    assert Path("run/best.json").read_bytes() == (uninterrupted / "best.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_search_killed_often_equals_one_left_alone(seed: int, uninterrupted: Path) -> None:
    rng = random.Random(seed)
    search = begun(Path("run"), rng.randrange(1, 6))
    search.kill()
    search.communicate()
    resumed_until_done(Path("run"), 5, rng)
    assert timeless(Path("run")) == timeless(uninterrupted)


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 5), (signal.SIGHUP, 2)])
def test_an_interrupted_search_says_how_to_go_on(
    number: signal.Signals, times: int, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("my runs/one")
    search = begun(path, 4)
    if times == 1:  # meanwhile it keeps others out
        assert "is being written by another process" in slip(capsys, "--resume", str(path))
        assert "already holds a run" in slip(capsys, *LONG, "--out", str(path))
    for _ in range(times):
        search.send_signal(number)
        time.sleep(0.1)
    out, err = search.communicate(timeout=60)
    assert search.returncode == 130 and out == "" and "Traceback" not in err, err
    assert json.loads((path / "manifest.json").read_text())["status"] == "interrupted"
    said = re.search(r"interrupted after (\d+) of 40 candidates; to go on: (.*)$", err.strip())
    assert said and int(said[1]) == lines_in(path / "trials.jsonl")
    words = shlex.split(said[2])
    assert words[:3] == ["python", "-m", "nas.search"]
    assert main([*words[3:], "--quiet", "--no-report"]) == 0
    assert timeless(path) == timeless(uninterrupted)
    assert json.loads((path / "manifest.json").read_text())["status"] == "finished"
