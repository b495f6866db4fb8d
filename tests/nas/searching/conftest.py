"""A finished search."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.search import main
from tests.nas.searching.runs import COUNT


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six candidates."""
    path = tmp_path_factory.mktemp("finished") / "run"
    assert main([*COUNT, "--out", str(path)]) == 0
    return path
