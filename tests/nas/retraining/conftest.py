"""A search whose best cells can be trained in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

import nas.search
from tests.nas.executors.conftest import _ray_environment as _ray_environment


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search."""
    path = tmp_path_factory.mktemp("search") / "run"
    words = "--searcher random --proxy params --budget 8 --channels 2 --layers 2 --no-report --quiet --out"
    assert nas.search.main([*words.split(), str(path)]) == 0
    return path


@pytest.fixture
def run(found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it without files of training, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = Path("run")
    path.mkdir()
    for name in ("manifest.json", "trials.jsonl", "best.json"):
        (path / name).write_bytes((found / name).read_bytes())
    return path
