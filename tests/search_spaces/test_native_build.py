"""The C library as it comes to be on a machine, and what happens where it cannot be had."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from search_spaces.native_build import SOURCE
from search_spaces.native_library import Library
from tests.nas.commands import ROOT

SHOW = "from search_spaces.native import description; print(description())"


def shown(tmp_path: Path, **environment: str) -> str:
    """What a new process says that it computes with."""
    given = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=given, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    return done.stdout.strip()


def compiler(tmp_path: Path, script: str) -> str:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def test_built_once_and_kept(library: Library, tmp_path: Path) -> None:
    assert shown(tmp_path).startswith("C, ")
    (built,) = (tmp_path / "cache" / "nas-robust").iterdir()
    before = built.stat().st_mtime_ns
    assert shown(tmp_path).startswith("C, ")
    assert built.stat().st_mtime_ns == before
    built.write_bytes(b"damaged")
    assert shown(tmp_path).startswith("C, ")  # built anew
    assert list(built.parent.iterdir()) == [built]


def test_that_of_float64_is_built_when_it_is_asked_for(library: Library, tmp_path: Path) -> None:
    program = """
import os, torch
from search_spaces import native
torch.set_num_threads(1)
folder = os.path.join(os.environ["XDG_CACHE_HOME"], "nas-robust")
for dtype, built in ((torch.float32, 1), (torch.float64, 2), (torch.float64, 2), (torch.float16, 2)):
    found = native.library(dtype)
    assert found is None if dtype is torch.float16 else found.dtype is dtype
    assert len(os.listdir(folder)) == built
"""
    given = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=given, cwd=ROOT, check=True, timeout=120)


def test_several_processes_build_it_at_a_time(library: Library, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", SHOW], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert all(each.communicate(timeout=120)[0].startswith("C, ") for each in started)
    assert len(list((tmp_path / "nas-robust").iterdir())) == 1


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1", "CalledProcessError: .*--version"),
        ("true", "OSError: .* does not say what it is"),
        ("echo some compiler; test $# = 1", "CalledProcessError: .*-O3"),
    ],
)
def test_a_compiler_that_does_not_work(tmp_path: Path, script: str, why: str) -> None:
    assert re.fullmatch(rf"torch \({why}.*\)", shown(tmp_path, CC=compiler(tmp_path, script)))


def test_a_library_with_other_values_is_not_used(library: Library, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text(SOURCE.read_text().replace("sum[p] += weight", "sum[p] -= weight").replace("sum += *", "sum -= *"))
    script = f'test "$1" = --version && echo some compiler && exit; cc -O1 -DREAL=float -shared -fPIC -o "$7" {wrong}'
    why = "the C library has other values than torch, or cannot be loaded"
    assert shown(tmp_path, CC=compiler(tmp_path, script)) == f"torch ({why})"
    assert len(list((tmp_path / "cache" / "nas-robust").iterdir())) == 1  # it was built, and looked at


@pytest.mark.parametrize(
    "context",
    [
        "torch.inference_mode()", "torch.autocast('cpu')", "torch.device('meta')", "torch.no_grad()",
        "contextlib.nullcontext(torch.set_default_dtype(torch.float64))",
        "contextlib.nullcontext(torch.set_default_dtype(torch.bfloat16))",
    ],
)  # fmt: skip
def test_whatever_is_going_on_when_it_is_first_asked_for(library: Library, context: str) -> None:
    program = f"""
import contextlib, torch
from search_spaces.kernels import convolved
from search_spaces.native import description
torch.set_num_threads(1)
x, weight = torch.rand(1, 3, 99, 99, dtype=torch.float32), torch.rand(3, 1, 3, 3, dtype=torch.float32)
with {context}:
    assert description().startswith("C, ")
    with torch.no_grad():
        convolved(x, weight, 1)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


def test_another_users_folder_is_not_used(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "nas-robust"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert shown(tmp_path) == f"torch (PermissionError: others may write to {folder})"


def test_a_command_with_options_and_a_compiler_of_cpp(library: Library, tmp_path: Path) -> None:
    assert shown(tmp_path, CC="cc -m64").startswith("C, ")
    if shutil.which("g++"):
        assert shown(tmp_path, CC="g++").startswith("C, g++")
    assert shown(tmp_path, CC="no-such-compiler") == "torch (FileNotFoundError: no C compiler)"


def test_done_without(tmp_path: Path) -> None:
    assert shown(tmp_path, NAS_NATIVE="0") == "torch (NAS_NATIVE is 0)"
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").write_text("no folder")
    assert shown(tmp_path).startswith("torch (NotADirectoryError")


def test_the_source_is_part_of_the_package() -> None:
    """As is every file of that folder that is no Python."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = [each.strip() for each in setup["options.package_data"]["search_spaces"].split(",")]
    others = [each.name for each in SOURCE.parent.iterdir() if each.is_file() and each.suffix != ".py"]
    assert SOURCE.name in others
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in others)
