"""What ``--config`` reads."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import nas.train
from nas.cli.fields import options_of
from nas.cli.option_file import read_options, whole
from nas.errors import UserError
from nas.search import OutputOptions, main
from nas.searching.config import SearchConfig
from tests.nas.commands import slip

pytestmark = pytest.mark.usefixtures("somewhere_else")

KNOWN = {field.name: (group, field) for group in (SearchConfig, OutputOptions) for field in options_of(group)}


def read(text: str) -> dict[str, Any]:
    Path("run.yaml").write_text(text)
    return read_options("run.yaml", KNOWN)


def test_values_of_all_types() -> None:
    text = "budget: 3.5e5\nlayers: null\nquiet: true\nproxy: params\nrequire: [a == 1]\ncpus_per_worker: 2\n"
    assert read(text) == {
        "budget": 350000, "layers": None, "quiet": True, "proxy": "params", "require": ["a == 1"], "cpus_per_worker": 2,
    }  # fmt: skip
    assert read('\ufeff{"configuration": {"max_params": 1e2}, "format": 1}') == {"max_params": 100}


@pytest.mark.parametrize(
    ("value", "number"),
    [("1e2", 100), ("3.5E+5", 350000), ("-1e1", -10), (1e2, 100), ("1.5e0", 1.5), ("1e", "1e"), ("12", "12")],
)
def test_whole_numbers_with_an_exponent(value: Any, number: Any) -> None:
    assert whole(value) == number and type(whole(value)) is type(number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget: 3\nbudget: 4\n", "not YAML: line 2, column 1: 'budget' is there twice"),
        ('{"a": {"b": 1, "b": 2}}', "'b' is there twice"),
        ('quiet: "yes"\n', "--quiet must be true or false, got 'yes'"),
        ("quiet: 1\n", "--quiet must be true or false, got 1"),
        ("proxy: " + "[" * 3000, "not YAML: line 1, column 27: more than 20 levels of nesting"),
        ("proxy: " + "{a: " * 3000, "more than 20 levels of nesting"),
        ("proxy: [" + "a, " * 200_000 + "]", "or 5,000 values"),
        ("proxy: " + "a" * 2_000_000, "bytes, expected at most 1,048,576"),
        ("proxy: &a [*a]", "not YAML: line 1, column 12: a reference"),
        ("budget: " + "9" * 5000, "not YAML"),
        ("budget: 2026-02-31", "not YAML"),
        ("budget: 2026-02-01", "--budget must be a whole number"),
        ("budget: 1.5e0", "--budget must be a whole number, got 1.5"),
        ("budget: true", "--budget must be a whole number, got True"),
        ("budget: null", "--budget must be a whole number, got None"),
        ("require: [5]", r"--require must be a text or a list of texts, got \[5\]"),
        ("train: slow", "--train must be quick or tiny_robustbench or table, got 'slow'"),
        ("out: [a]", "--out must be a text"),
        ("data_dir: !!python/name:os.system", "not YAML"),
        ("? [1]\n: 2", "not YAML"),
        ("1: 2", "unknown option '1'"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(text)
    assert "--config run.yaml" in str(error.value) or "run.yaml cannot be read" in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="a:-[]{}&*!|>?\"'#%@,.0159e\n \tbudget", max_size=60).map(str.encode))
@example(b"\xff\xfe")
@example(b"budget: 0o99999999999999999999")
@example(b"budget: 1:2:3:4")
def test_any_bytes_are_options_or_a_user_s_error(content: bytes) -> None:
    Path("fuzz.yaml").write_bytes(content)
    with contextlib.suppress(UserError):
        assert isinstance(read_options("fuzz.yaml", KNOWN), dict)


def test_only_regular_files_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("fifo")
    started = time.perf_counter()
    for path in ("fifo", "/dev/zero", ".", "missing", "a" * 300):
        assert path[:20] in slip(capsys, "--config", path)
    assert time.perf_counter() - started < 60  # a pipe or a device would never end


def test_an_option_without_effect_is_blamed_on_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("searcher: regularized_evolution\npopulation: 50\nworkers: 2\nexecutor: ray\n")
    line = slip(capsys, "--config", "run.yaml", "--searcher", "random")
    assert "--config run.yaml: --population 50 needs --searcher regularized_evolution or nsga2, got random" in line
    line = slip(capsys, "--config", "run.yaml", "--executor", "local")
    assert "--config run.yaml: --workers 2 needs --executor ray, got local; take it out" in line
    line = slip(capsys, "--searcher", "random", "--population", "5")
    assert "error: --population 5 needs --searcher regularized_evolution or nsga2, got random" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--population true", "--population must be a whole number, got true"),
        ("--max-params 3.5e-5", "--max-params must be a whole number, got 3.5e-5"),
        ("--budget 1.5e0", "--budget must be a whole number, got 1.5"),
        ("--budget=1e15", "--budget must be at most 1000000000, got 1000000000000000"),
        ("--layers 100000000", "--layers must be at most 1000, got 100000000"),
        ("--channels 1e12", "--channels must be at most 10000, got 1000000000000"),
        ("--channels 10000 --layers 1000", "a network has at most 2,000,000,000 parameters, got one of"),
        ("--threads 1000000", "--threads must be at most 4096"),
        ("--candidates-per-step 1e9", "--candidates-per-step must be at most 1000000"),
        ("--seed 1e30", "--seed must be a whole number from 0 to 2^63 - 1"),
        ("--quiet=yes", "--quiet takes no value, got 'yes'"),
    ],
)
def test_numbers_on_the_command_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert slip(capsys, *words.split()).startswith(f"error: {message}")


def test_exponents_are_read_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--budget 2e0 --max-params=3.5e5 --channels 4 --layers 3 --proxy params --out run --quiet --no-report"
    assert main([*words.split(), "--searcher", "random"]) == 0
    with pytest.raises(SystemExit):
        nas.train.main(["--cell", "DARTS_V2", "--epochs", "1e2", "--print_config"])
    assert "epochs: 100\n" in capsys.readouterr().out
