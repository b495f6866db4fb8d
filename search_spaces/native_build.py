"""How ``native.c`` becomes a library: by the machine's C compiler, when it is first asked for, in a second or two.

It is kept in the user's cache folder (``XDG_CACHE_HOME``, or ``~/.cache``) under a name that holds the source, the
compiler and the processor. There is one for each type of numbers.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
#: lines of /proc/cpuinfo that tell processors apart
PROCESSOR = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU implementer", "CPU part", "Features")
BUILD_SECONDS = 60


@dataclass(frozen=True)
class Recipe:
    """``real``: C's name of the numbers' type. ``compiler``: the command. ``built_by``: what it says of itself.
    ``path``: where the library is kept."""

    real: str
    compiler: tuple[str, ...]
    built_by: str
    path: Path

    def build(self) -> None:
        """Several processes may do so at a time: each writes a file of its own, which takes the place as a whole.

        :raises OSError, subprocess.SubprocessError: it cannot be built.
        """
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            made = Path(folder) / self.path.name
            _output(*self.compiler, *FLAGS, "-o", str(made), "-x", "c", f"-DREAL={self.real}", str(SOURCE))
            os.replace(made, self.path)


def recipe(real: str) -> Recipe:
    """How to build the library for ``float`` or ``double`` here.

    :raises OSError, subprocess.SubprocessError: there is no compiler, or no folder to keep it in.
    """
    compiler = _compiler()
    said = _output(*compiler, "--version").splitlines()
    if not said:
        raise OSError(f"{compiler[0]} does not say what it is")
    path = _cache_folder() / f"native-{real}-{_key(' '.join(compiler), said[0])}.so"
    return Recipe(real, compiler, said[0], path)


def _compiler() -> tuple[str, ...]:
    """The command, as ``CC`` has it, or the first that is there.

    :raises FileNotFoundError: there is none.
    """
    chosen = os.environ.get("CC")
    for command in [chosen] if chosen else ("cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and (path := shutil.which(words[0])):
            return path, *words[1:]
    raise FileNotFoundError("no C compiler")


def _output(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=True,
        timeout=BUILD_SECONDS,
    )  # fmt: skip
    return done.stdout


def _cache_folder() -> Path:
    """Of this user and nobody else to write to, as a library is loaded from there.

    :raises OSError: it cannot be so.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas-robust"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "geteuid") and (folder.stat().st_uid != os.geteuid() or folder.stat().st_mode & 0o022):
        raise PermissionError(f"others may write to {folder}")
    return folder


def _key(compiler: str, built_by: str) -> str:
    """Of all that the library depends on; homes are shared by different processors."""
    processor = platform.machine() + platform.system() + platform.processor()
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        processor += "".join(line for line in first.splitlines() if line.startswith(PROCESSOR))
    except OSError:
        pass
    parts = (SOURCE.read_bytes(), *(each.encode() for each in (compiler, built_by, " ".join(FLAGS), processor)))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
