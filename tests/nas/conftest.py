"""The embedded images, read once; and a directory of its own to be in."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.images.data import ImageData, load_data


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
