"""Real Ray, small and private."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", autouse=True)
def _ray_environment() -> Iterator[None]:
    """Ray's processes inherit these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def ray(_ray_environment: None) -> Iterator[Any]:
    """A private cluster of 4 logical cores, which the executors of a module share."""
    import ray

    ray.init(
        address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=128 * 2**20,
    )  # fmt: skip
    yield ray
    ray.shutdown()


def ray_processes() -> set[int]:
    """Ray's processes on this machine that are children of this one, or of no one."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if any(name in command for name in (b"raylet", b"gcs_server", b"ray::")) and parent in (1, os.getpid()):
            found.add(int(entry.name))
    return found
