"""What becomes of a command's output and errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nas.cli.printing import Terminal, printable
from nas.cli.running import run_command
from nas.errors import SearchStopped, UserError
from tests.nas.commands import ROOT

PRINTS = """
import sys
from nas.cli.printing import Terminal
from nas.cli.running import run_command

def command(argv):
    for _ in range(4_000):
        Terminal().say("a line that nobody reads \\u732b \\ud800")
    print("a line", flush=True)
    open("done", "w").close()
    return 0

sys.exit(run_command(command))
"""


def ended(shell: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell command in which ``"$@"`` is a program that prints a lot, and then leaves a file."""
    words = ["bash", "-c", f"set -o pipefail; {shell}", "bash", sys.executable, "-c", PRINTS]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1", "PATH": "/usr/bin:/bin"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("shell", ['"$@" | true', '"$@" | head -1', '"$@" >&-', '"$@" 2>&-', '"$@"'])
def test_an_output_that_nobody_reads_ends_nothing(shell: str, tmp_path: Path) -> None:
    result = ended(shell, tmp_path)
    assert (result.returncode, result.stderr) == (0, "") and (tmp_path / "done").exists()


def test_a_full_output_is_one_line(tmp_path: Path) -> None:
    result = ended('"$@" > /dev/full', tmp_path)
    assert result.returncode == 1
    assert result.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("what\n\x1b[2J"), 2, "error: what \\x1b[2J\n"),
        (SearchStopped("why"), 1, "error: why\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (MemoryError("12 bytes"), 1, "error: MemoryError: 12 bytes\n"),
        (ImportError("libx.so: failed to map segment from shared object"), 1, "failed to map segment"),
    ],
)
def test_errors_are_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(argv: object) -> int:
        raise error

    assert run_command(command, []) == code
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1


def test_control_characters_are_shown_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().say("a\x1b[31mb\x07\nc")
    assert capsys.readouterr().out == "a\\x1b[31mb\\x07\nc\n"
    assert printable("plain ä 猫") == "plain ä 猫"
