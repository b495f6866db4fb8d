"""How much memory is left, as the system tells it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.images import memory
from nas.images.memory import available_bytes, check_memory


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the system's files; at first it is empty."""
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_STATM", tmp_path / "statm")
    monkeypatch.setattr(memory, "_CONTAINER", (tmp_path / "max", tmp_path / "limit"))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return tmp_path


def test_this_machine_tells_a_number_or_none() -> None:
    found = available_bytes()
    assert found is None or 0 <= found < 2**50


def test_the_least_counts(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_bytes() is None
    check_memory("anything", 2**80)  # nothing is known, so nothing is refused
    (told / "meminfo").write_text("MemTotal:       32000 kB\nMemAvailable:    9000 kB\n")
    assert available_bytes() == 9000 * 1024
    (told / "max").write_text("max\n")
    assert available_bytes() == 9000 * 1024
    (told / "limit").write_text("4096000\n")
    assert available_bytes() == 4096000
    (told / "statm").write_text("100 50 20 1 0 30 0\n")
    pages = resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (300 * pages, resource.RLIM_INFINITY))
    assert available_bytes() == 200 * pages
    check_memory("two hundred pages", 200 * pages)
    with pytest.raises(UserError, match=r"^a page more would take 0\.0 GiB of memory, got 0\.0 GiB available$"):
        check_memory("a page more", 201 * pages)
