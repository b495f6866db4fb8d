"""``python -m nas.search`` as a user meets it. Errors are provoked in this process; what needs processes gets them."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.search import main
from nas.searching.config import SearchConfig
from search_spaces import get_space
from tests.nas.commands import process, slip
from tests.nas.searching.runs import COUNT, TINY

pytestmark = pytest.mark.usefixtures("somewhere_else")

FLAGS = shlex.split(
    "--space --searcher --proxy --budget --seed --dataset --data-dir --download --channels --layers --ntk-images"
    " --curvature-images --max-params --max-macs --require --threads --device --out --resume --quiet --json --config"
    " --print_config --no-report"
)


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


ONCE = f"""
import runpy, sys
sys.argv = ["search", *{[*COUNT, "--out", "run"]}]
try:
    runpy.run_module("nas.search", run_name="__main__", alter_sys=True)
except SystemExit as end:
    print(end.code, [name for name in ("nas.search", "nas.searching.search") if name in sys.modules])
"""


def test_the_command_s_module_is_loaded_once() -> None:
    """Run as ``__main__``, it is not imported a second time by its own name."""
    out, err = process(start=("-c", ONCE)).communicate()
    assert out.splitlines()[-1] == "0 ['nas.searching.search']", err


def test_the_configuration_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[SearchConfig] = []
    check = SearchConfig.__post_init__

    def checked(self: SearchConfig) -> None:
        made.append(self)
        check(self)

    monkeypatch.setattr(SearchConfig, "__post_init__", checked)
    assert main([*COUNT, "--out", "run"]) == 0
    assert len(made) == 1


def test_the_table_shows_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COUNT[:-1], "--out", "run [bold]", "--max-params", "3000"]) == 0
    out, err = capsys.readouterr()
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert [row.split()[1] for row in rows] == ["1", "2", "3", "4", "5"]
    best = json.loads(Path("run [bold]/best.json").read_text())
    assert f"{best['params']:,}" in rows[0] and f"best:   {best['genotype']}\n" in out
    assert [line.split()[0] for line in out.splitlines() if "Genotype(" in line] == ["best:", "2:", "3:", "4:", "5:"]
    assert "run:    run [bold]" in out and "report" not in out
    assert "next:   python -m nas.train --run 'run [bold]'" in out and "rows:" not in out
    assert re.search(r"\d+ draws rejected by the constraints", out)
    assert "6/6" in err and "best" in err


def test_the_table_of_long_names_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ["grad_norm(images=4, norm=eval)", "robust(curvature_images=4, function=loss, ntk_images=6)", "synflow_bn"]
    assert main([*TINY, "--out", "run", *(word for name in names for word in ("--proxy", name))]) == 0
    out, err = capsys.readouterr()
    table = [line for line in out.splitlines() if line[:1] in "┏┃│└"]
    assert "rows:   by the mean rank of the scores" in out
    assert max(map(len, table)) <= 80 and "best" not in err.splitlines()[-1]
    for record in json.loads(Path("run/best.json").read_text())["scores"].values():
        assert f"{record:.6g}" in out  # in one piece


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


def test_a_proxy_with_options_in_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Two of a kind; the batch holds as many images as either looks at; the manifest can be given back."""
    names = ["grad_norm(images=12, norm=eval)", "grad_norm(images=3)"]
    spelled = [word for name in names for word in ("--proxy", name.replace(" ", ""))]
    assert main([*TINY, *spelled, "--json", "--out", "run"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert list(best["scores"]) == names
    assert main(["--config", "run/manifest.json", "--quiet", "--out", "again"]) == 0
    assert main(["--resume", "run", "--budget", "8", "--quiet"]) == 2  # another history
    assert json.loads(Path("again/best.json").read_text())["scores"] == best["scores"]
    assert "grad_norm(images=12, norm=eval)" in Path("run/report.html").read_text()


# Bad input


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--space dart", ["unknown search space 'dart'", "did you mean darts or darts10"]),
        ("--proxy robst", ["unknown proxy 'robst'", "did you mean robust"]),
        ("--proxy 'snip(image=8)'", ["the proxy snip has no option 'image'", "did you mean images?"]),
        (
            "--proxy 'snip(8)'",
            ["cannot read the proxy 'snip(8)': '8' names no option", "snip(images=64, norm=train)"],
        ),
        ("--proxy 'snip(images=1)'  'norm=eval)'", ["'norm=eval)' belongs to no option", "in quotation marks"]),
        ("--proxy 'snip(images=99999)'", ["--proxy snip(images=99999)", "at most 1408"]),
        ("--proxy 'snip(images=8)' --proxy 'snip( images=8 )'", ["--proxy must name each proxy once"]),
        ("--proxy snip --proxy 'snip(norm=train)'", ["snip and snip(norm=train), which are the same"]),
        ("--proxy 'robust(ntk_images=99999)'", ["--proxy robust(ntk_images=99999)", "at most 1408"]),
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
        ("--proxy robust --ntk-images 100000", ["--ntk-images", "100000", "at most 1408"]),
        ("--proxy robust --curvature-images 100000", ["--curvature-images", "100000", "at most 1408"]),
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
        ("--robust-t 5", ["unknown option '--robust-t'"]),
        ("--proxy 'robust(h=0)'", ["the proxy robust: h must be a number above 0, got 0"]),
        ("--budg 5", ["unknown option '--budg'", "did you mean --budget"]),
        ("stray", ["stray"]),
        ("--out file", ["run directory file cannot be written"]),
        ("--out file/run", ["run directory file/run cannot be written"]),
        ("--out " + "x" * 300, ["cannot be read", "name too long"]),
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
