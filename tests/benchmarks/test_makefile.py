"""``make gpu``: what it runs, and that this needs no more than pytest and the packages of the project without ray."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("hypothesis", "pytest_timeout", "ray", "xdist")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-s", "gpu", *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_one_line_says_that_nothing_was_tested() -> None:
    done = make(f"PYTHON={sys.executable}")
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]  # of make itself
    assert done.returncode != 0 and done.stdout == ""
    assert said == ["make gpu: torch sees no CUDA device here, so nothing was tested or measured"]


@pytest.fixture
def calls(tmp_path: Path) -> list[list[str]]:
    """The arguments of every call of Python that ``make gpu`` makes where there is a GPU."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" -- >> {tmp_path}/calls\n')
    python.chmod(0o755)
    done = make(f"PYTHON={python}", f"GPU_OUT={tmp_path}/gpu.json")
    assert done.returncode == 0, done.stderr
    return [call.split("\n") for call in (tmp_path / "calls").read_text().removesuffix("\n--\n").split("\n--\n")]


def test_the_tests_are_collected_without_plugins_and_then_the_benchmark_runs(
    calls: list[list[str]], tmp_path: Path
) -> None:
    _, tests, benchmark = calls
    assert benchmark == ["-m", "benchmarks.gpu", "--out", f"{tmp_path}/gpu.json"]
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, *tests, "--collect-only"], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = set(re.findall(r"^(tests/\S+?)::", done.stdout, re.MULTILINE))
    assert found == {path for path in tests if path.endswith(".py") and "mark.gpu" in (ROOT / path).read_text()}
    assert "warning" not in done.stdout


def test_every_test_of_a_gpu_is_in_a_file_that_is_run(calls: list[list[str]]) -> None:
    marked = {path for path in (ROOT / "tests").rglob("*.py") if "pytest.mark.gpu" in path.read_text()}
    assert {str(path.relative_to(ROOT)) for path in marked} - {"tests/benchmarks/test_makefile.py"} <= set(calls[1])
