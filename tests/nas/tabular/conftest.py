from __future__ import annotations

import os
from pathlib import Path

import pytest

from nas.tabular import nas_robbench_201, tiny_robustbench
from tests.nas.tabular.synthetic import CODES, accuracies, write_tables


@pytest.fixture
def published() -> Path:
    """The folder of the published files."""
    folder = os.environ.get("NAS_DATA")
    if not folder or not (Path(folder) / "nas_robbench_201").is_dir():
        pytest.skip("needs the published tables: set NAS_DATA to the folder that holds nas_robbench_201")
    return Path(folder)


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of NAS-RobBench-201's form that holds every class."""
    folder = tmp_path_factory.mktemp("complete")
    write_tables(folder / "nas_robbench_201", accuracies(CODES))
    return folder


@pytest.fixture
def own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are not the published ones are accepted."""
    monkeypatch.setattr(nas_robbench_201, "PUBLISHED", {})
    monkeypatch.setattr(tiny_robustbench, "PUBLISHED", {})
