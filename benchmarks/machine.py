"""The machine that a benchmark runs on: its description, and a restriction to an older instruction set.

torch, oneDNN and MKL choose their code when they are loaded. So a benchmark with a restricted instruction set runs in a
new process, with both sides of its comparison.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

#: For each instruction set, the environment variables that keep torch, oneDNN and MKL from using newer ones.
SETTINGS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "sse4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}


def parse(parser: argparse.ArgumentParser, module: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of the benchmark ``module``; with ``--isa`` it runs in a new process, whose end exits this one."""
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
    """torch version, processor, instruction set and commit, as one line."""
    import torch

    from nas.runs import environment

    hardware = environment.hardware("cpu")
    return (
        f"torch {torch.__version__}, {hardware.get('processor')}, {hardware['cores']} cores,"
        f" {torch.backends.cpu.get_cpu_capability()} instructions; commit {environment.git_commit()}"
    )
