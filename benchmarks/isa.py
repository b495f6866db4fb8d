"""Benchmarks on an older processor than this one: torch and its libraries held back to fewer instructions.

The libraries choose their code when they are loaded, so a benchmark that is to be held back runs in a process of its
own. Both of its sides run there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

#: By instruction set, what tells torch, oneDNN and MKL not to use anything newer.
SETTINGS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "sse4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}


def add_isa(parser: argparse.ArgumentParser) -> None:
    """Adds ``--isa``."""
    parser.add_argument(
        "--isa",
        choices=sorted(SETTINGS),
        help="hold both sides back to this instruction set (default: whatever the processor has)",
    )


def held_back(module: str, argv: Sequence[str], isa: str | None) -> int | None:
    """The exit code of the benchmark ``module``, run again in a process that is held back to ``isa``.

    None where it may run in this process: no instruction set was asked for, or this process is the one held back.
    """
    if isa is None or all(os.environ.get(name) == value for name, value in SETTINGS[isa].items()):
        return None
    return subprocess.run([sys.executable, "-m", module, *argv], env={**os.environ, **SETTINGS[isa]}).returncode


def instruction_set() -> str:
    """The instruction set that torch uses in this process, as tables name it: ``AVX2``, ``AVX512``, ``DEFAULT``."""
    import torch

    return torch.backends.cpu.get_cpu_capability()
