"""What a benchmark runs on: this processor, or this one held back to fewer instructions.

torch, oneDNN and MKL choose their code when they are loaded, so a benchmark that is to be held back runs in a process
of its own; both of its sides run there.
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


def parse(parser: argparse.ArgumentParser, module: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of the benchmark ``module``; with ``--isa`` it runs in another process, and this one ends."""
    parser.add_argument(
        "--isa",
        choices=sorted(SETTINGS),
        help="hold both sides back to this instruction set (default: all that the processor has)",
    )
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(argv)
    settings = SETTINGS.get(arguments.isa, {})
    if any(os.environ.get(name) != value for name, value in settings.items()):
        again = subprocess.run([sys.executable, "-m", module, *argv], env={**os.environ, **settings})
        raise SystemExit(again.returncode)
    return arguments


def description() -> str:
    """Versions, processor, instruction set and commit, in a line to stand under a table."""
    import torch

    from nas.runs import environment

    hardware = environment.hardware("cpu")
    return (
        f"torch {torch.__version__}, {hardware.get('processor')}, {hardware['cores']} cores,"
        f" {torch.backends.cpu.get_cpu_capability()} instructions; commit {environment.git_commit()}"
    )
