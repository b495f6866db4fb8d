"""Settings of all tests. They run in two processes: a file in one of them, the tests of Ray in one after the other.

``make gpu`` runs without hypothesis and without pytest's plugins.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# Two processes run tests at a time, and start others: with a thread for each core they wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("project", deadline=None)  # a slow or busy machine is not a failure
    settings.load_profile("project")

#: They count the processes of Ray on this machine.
RAY = ("tests/nas/executors", "tests/nas/retraining/test_tune.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items if config.pluginmanager.hasplugin("xdist") else ():
        path = item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group("ray" if path.startswith(RAY) else path))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run as a background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
