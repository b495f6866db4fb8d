"""What a result depends on besides its configuration: package versions, hardware, and the commit of this program."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

PACKAGES = ("nas-robust", "torch", "numpy", "networkx", "scipy", "scikit-learn")


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python, ``PACKAGES`` and the packages ``more``, by name; packages not installed are left out."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, str]:
    """Processor, cores and memory of this machine and, if ``device`` is a CUDA device, the name of the accelerator."""
    found = {"machine": platform.machine(), "system": platform.system(), "cores": str(os.cpu_count())}
    try:
        cpu = Path("/proc/cpuinfo").read_text()
        found["processor"] = next(
            line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")
        )
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory"] = f"{memory_bytes / 2**30:.1f} GiB"
    except (OSError, StopIteration, ValueError):
        found["processor"] = platform.processor()
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():  # otherwise the accelerators are on other machines of a cluster
            found["accelerator"] = torch.cuda.get_device_name(device)
    found["device"] = device
    return found


def git_commit() -> str | None:
    """The commit of the git checkout of this program, with ``+`` if tracked files were changed; None without one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+" if changed else commit
