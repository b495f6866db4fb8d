"""Ctrl-C at any time and any number of times, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nas.cli import interrupts
from tests.nas.commands import ROOT

#: a module that takes a while to be found, which is told
SLOW = """
import os, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("SLOW"):
            print("ready", flush=True)
            time.sleep(1)

sys.meta_path.insert(0, Slow())
"""
COMMAND = """
import sys, time
from nas.cli import interrupts
from nas.cli.running import run_command

def command(argv):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(float(argv[0]))
        print("brought to an end", flush=True)

interrupts.end_at_once()
interrupts.PATIENCE_SECONDS = float(sys.argv[2])
sys.exit(run_command(command))
"""

WORK = """
import sys, time
from nas.cli import interrupts
from nas.cli.running import run_command

def command(argv):
    with interrupts.under_way():
        import slow
        time.sleep(60)

sys.exit(run_command(command))
"""


def not_ignored() -> None:
    """Tests may run as a background job, or after ``nohup``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def ready(*words: str, preexec: Any = None, **environment: str) -> subprocess.Popen[str]:
    """A process that has said so."""
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        preexec_fn=preexec or not_ignored,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("command", ["nas.search", "nas.train", "nas search"])
@pytest.mark.parametrize("module", ["nas.errors", "torch"])
def test_imports_end_in_one_line(command: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    words = ["--cell", "DARTS_V2"] if "train" in command else ["--budget", "3"]
    process = ready(
        "-m", *command.split(), *words, "--out", str(tmp_path / "run"),
        PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))), SLOW=module,
    )  # fmt: skip
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("presses", [1, 2, 5])
def test_what_is_under_way_is_brought_to_its_end(number: signal.Signals, presses: int) -> None:
    process = ready("-c", COMMAND, "0.6", "60")
    for _ in range(presses):
        process.send_signal(number)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "brought to an end\n", "interrupted\n")


def test_an_end_that_takes_too_long_can_be_cut_short() -> None:
    process = ready("-c", COMMAND, "60", "0.1")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_an_import_in_the_midst_of_work_is_finished_first(tmp_path: Path) -> None:
    slow = "import time\nprint('ready', flush=True)\ntime.sleep(1)\nprint('imported')\n"
    (tmp_path / "slow.py").write_text(slow)
    process = ready("-c", WORK, PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "imported\n", "interrupted\n")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("signalled", [False, True])
def test_the_handlers_before_are_put_back(signalled: bool) -> None:
    before = signal.getsignal(signal.SIGINT)
    with contextlib.suppress(KeyboardInterrupt), interrupts.raised_once():
        assert signal.getsignal(signal.SIGINT) is not before
        if signalled:
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    process = ready("-c", COMMAND, "0", "60", preexec=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # nohup
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30) == ("brought to an end\n", "interrupted\n")
