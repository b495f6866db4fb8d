"""``python -m nas.search`` as a user meets it. Errors are provoked in this process; what needs processes gets them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nas.search import main
from search_spaces import get_space

ROOT = Path(__file__).resolve().parents[2]
FLAGS = shlex.split(
    "--space --searcher --proxy --budget --seed --dataset --data-dir --download --channels --layers --ntk-images"
    " --curvature-images --max-params --max-macs --require --threads --device --out --resume --quiet --json --config"
    " --print_config --no-report"
)
TINY = shlex.split("--channels 2 --layers 2 --ntk-images 10 --curvature-images 2 --budget 6")
COUNT = [*TINY, "--proxy", "params", "--searcher", "random", "--no-report", "--quiet"]


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def process(*words: str, start: tuple[str, ...] = ("-m", "nas.search"), **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, *start, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # which a background job would ignore
        **options,
    )  # fmt: skip


def timeless(path: Path) -> list[dict[str, Any]]:
    trials = [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]
    return [{**trial, "seconds": 0} for trial in sorted(trials, key=lambda trial: trial["id"])]


def slip(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that the command answers with."""
    capsys.readouterr()
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    return err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six candidates."""
    path = tmp_path_factory.mktemp("finished") / "run"
    assert main([*COUNT, "--out", str(path)]) == 0
    return path


def copy_of(run: Path, to: Path) -> Path:
    to.mkdir()
    for name in ("manifest.json", "trials.jsonl"):
        (to / name).write_bytes((run / name).read_bytes())
    return to


# What is printed


def test_help_is_quick_and_lists_every_flag() -> None:
    fastest = 60.0
    for _ in range(2):  # the first start may have to read files from a cold disk
        started = time.monotonic()
        out, err = process("--help").communicate()
        fastest = min(fastest, time.monotonic() - started)
    assert err == "" and fastest < 3
    assert set(FLAGS) <= set(re.findall(r"--[\w-]+", out))


HEAVY = "print([m for m in ('ray', 'torchattacks', 'torchvision') if m in sys.modules]); print('torch' in sys.modules)"


@pytest.mark.parametrize(
    ("program", "torch_too"),
    [
        ("import nas, nas.search", False),
        ("import nas.search\ntry: nas.search.main(['--help'])\nexcept SystemExit: pass", False),
        (f"import nas.search\nassert nas.search.main({[*TINY, '--out', 'run']}) == 0", True),
    ],
    ids=["import", "help", "search"],
)
def test_nothing_optional_is_imported(program: str, torch_too: bool) -> None:
    out, err = process(start=("-c", f"import sys\n{program}\n{HEAVY}")).communicate()
    assert out.splitlines()[-2:] == ["[]", str(torch_too)], err


def test_the_table_shows_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COUNT[:-1], "--out", "run [bold]", "--max-params", "3000"]) == 0
    out, err = capsys.readouterr()
    rows = [line for line in out.splitlines() if line.startswith("│") and "Genotype(" in line]
    assert len(rows) == 5
    best = json.loads(Path("run [bold]/best.json").read_text())
    assert f"{best['params']:,}" in rows[0] and f"best:   {best['genotype']}\n" in out
    assert "run:    run [bold]" in out and "report" not in out
    assert re.search(r"\d+ draws rejected by the constraints", out)
    assert "6/6" in err and "best" in err


def test_quiet_prints_one_genotype(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COUNT, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    assert out.strip() == json.loads(Path("run/best.json").read_text())["genotype"]
    get_space("darts").parse(out)


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--json", "--proxy", "params", "--proxy=macs", "--out", "run"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert result["best"] == result["top"][0] == json.loads(Path("run/best.json").read_text())
    assert set(result["best"]["scores"]) == {"params", "macs"} and len(result["top"]) == 5
    assert result["run"] == "run" and result["report"] == "run/report.html" and Path("run/report.html").exists()
    assert result["summary"]["ok"] == 6


# Configuration files


def printed_config(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as exit:
        main([*words, "--print_config"])
    assert exit.value.code == 0
    return capsys.readouterr().out


def test_a_printed_configuration_can_be_given_back(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    words = [*COUNT, "--proxy", "macs", "--require", "normal.skip_connect <= 3", "--require=reduce.none == 0"]
    text = printed_config(capsys, *words)
    assert yaml.safe_load(text)["proxy"] == ["params", "macs"]
    assert yaml.safe_load(text)["require"] == ["normal.skip_connect <= 3", "reduce.none == 0"]
    Path("run.yaml").write_text(text)
    assert printed_config(capsys, "--config", "run.yaml") == text
    assert main(["--config", "run.yaml", "--out", "1"]) == 0 and main([*words, "--out", "2"]) == 0
    assert timeless(Path("1")) == timeless(Path("2"))


def test_a_manifest_can_be_given_back(finished: Path) -> None:
    manifest = str(finished / "manifest.json")
    assert main(["--config", manifest, "--out", "same", "--no-report", "--quiet"]) == 0
    assert timeless(Path("same")) == timeless(finished)
    assert main([f"--config={manifest}", "--out", "other", "--no-report", "--quiet", "--seed", "1"]) == 0
    assert timeless(Path("other"))[0]["key"] != timeless(finished)[0]["key"]


def test_a_configuration_may_name_a_single_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("proxy: params\nrequire: normal.skip_connect == 2\nlayers: 2\nbudget: 3\n")
    assert main(["--config", "run.yaml", "--channels", "2", "--no-report", "--quiet", "--out", "run"]) == 0
    configuration = json.loads(Path("run/manifest.json").read_text())["configuration"]
    assert configuration["proxy"] == ["params"] and configuration["require"] == ["normal.skip_connect == 2"]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["--config run.yaml", "No such file"]),
        ("budget: [\n", ["--config run.yaml", "not YAML", "line 2"]),
        ("", ["--config run.yaml", "must hold options by name"]),
        ("- 1\n", ["--config run.yaml", "must hold options by name", "[1]"]),
        ("\udcff\udcfe", ["--config run.yaml", "not YAML"]),
        ("bugdet: 5\n", ["--config run.yaml", "unknown option 'bugdet'", "did you mean budget"]),
        ("budget: many\n", ["--budget must be a whole number, got many"]),
        ("proxy: 5\n", ["--proxy", "5"]),
        ("proxy: []\n", ["--proxy must name at least one proxy"]),
        ("robust_norm: both\n", ["--robust-norm must be eval or train, got both"]),
    ],
)
def test_a_bad_configuration_file(content: str | None, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        Path("run.yaml").write_bytes(content.encode(errors="surrogateescape"))
    error = slip(capsys, *TINY, "--quiet", "--no-report", "--config", "run.yaml")
    assert all(part in error for part in parts), error


# Bad input


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--space dart", ["unknown search space 'dart'", "did you mean darts?"]),
        ("--proxy robst", ["unknown proxy 'robst'", "did you mean robust"]),
        ("--searcher randm", ["unknown searcher 'randm'", "did you mean random?"]),
        ("--dataset cifar", ["unknown data set 'cifar'", "did you mean cifar10"]),
        ("--dataset folder:missing", ["'folder:missing'", "names no folder"]),
        ("--dataset folder:", ["'folder:'", "names no folder"]),
        ("--dataset cifar10 --data-dir missing", ["'cifar10'", "'missing'", "--download"]),
        ("--budget 0", ["--budget must be at least 1, got 0"]),
        ("--budget ten", ["--budget must be a whole number, got ten"]),
        ("--budget 2.5", ["--budget must be a whole number, got 2.5"]),
        ("--budget", ["--budget: expected one argument"]),
        ("--layers 0", ["--layers must be at least 1, got 0"]),
        ("--channels -2", ["--channels must be at least 1, got -2"]),
        ("--ntk-images 100000", ["--ntk-images", "100000", "at most 1408"]),
        ("--curvature-images 100000", ["--curvature-images", "100000", "at most 1408"]),
        ("--ntk-images 0", ["--ntk-images must be at least 1, got 0"]),
        ("--seed -1", ["--seed", "-1"]),
        ("--threads many", ["--threads must be a whole number, got many"]),
        ("--sampler best", ["--sampler must be uniform or published, got best"]),
        ("--device gpu", ["--device must be cpu, cuda, cuda:N or auto, got 'gpu'"]),
        (
            "--require 'normal.skip_connect = 2'",
            ["'normal.skip_connect = 2' cannot be read", "'normal.skip_connect == 2'"],
        ),
        ("--require 'middle.skip_connect == 2'", ["unknown cell 'middle'", "normal, reduce"]),
        ("--require 'normal.skip_conect == 2'", ["unknown operation 'skip_conect'", "did you mean skip_connect"]),
        ("--require 'normal.skip_connect == 99' --max-draws 50", ["no candidate met the constraints in 50 draws"]),
        ("--max-params 1 --max-draws 50", ["no candidate met the constraints in 50 draws"]),
        ("--require", ["--require needs a value"]),
        ("--proxy --quiet", ["--proxy needs a value, got --quiet"]),
        ("--proxy params --proxy params", ["--proxy must name each proxy once"]),
        ("--bugdet 5", ["unknown option '--bugdet'", "did you mean --budget"]),
        ("--budg 5", ["unknown option '--budg'", "did you mean --budget"]),
        ("stray", ["stray"]),
        ("--out file", ["run directory file cannot be written"]),
        ("--out file/run", ["run directory file/run cannot be written"]),
        ("--out " + "x" * 300, ["cannot be written", "name too long"]),
        ("--resume", ["--resume needs the run directory"]),
        ("--resume missing", ["missing is not a run directory"]),
        ("--resume one --out two", ["one", "two", "expected one"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_input_is_one_line(words: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    options = shlex.split(words)
    base = [word for word in COUNT if word != "--quiet"]
    if "--proxy" in options:
        base = [word for word in base if word not in ("--proxy", "params")]
    error = slip(capsys, *base, *options)
    assert all(part in error for part in parts), error
    assert os.listdir() == ["file"]  # and no run was begun


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without an accelerator")
def test_an_absent_accelerator_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--device cuda: torch sees 0 CUDA devices" in slip(capsys, *COUNT, "--device", "cuda")


def test_image_folders_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*COUNT, "--dataset", "folder:pets"]
    Path("pets").mkdir()
    assert "'pets' has no folder 'train'" in slip(capsys, *words)
    Path("pets/train/cat").mkdir(parents=True)
    Path("pets/train/dog").mkdir()
    assert "class 'cat' has no images in 'pets/train/cat'" in slip(capsys, *words)
    for name in ("cat", "dog"):
        for number in range(5):
            pixels = np.full((8, 8, 3), number, dtype=np.uint8)
            Image.fromarray(pixels).save(f"pets/train/{name}/{number}.png")
    assert main([*words, "--out", "good"]) == 0
    Path("pets/train/dog/2.png").write_bytes(b"no image")
    assert "pets/train/dog/2.png" in slip(capsys, *words)


# Run directories


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
        ("[]", "holds no configuration"),
        ("-data", "damaged"),
        ("-hardware", "damaged"),
        ("-seconds", "damaged"),
        ('budget="many"', "--budget must be a whole number, got 'many'"),
        ('proxy=["nothing"]', "unknown proxy 'nothing'"),
        ("proxy=5", "--proxy"),
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
