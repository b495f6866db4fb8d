"""A small trained network, and attacks that are quick."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from nas.attacking.attacks import apgd, carlini_wagner, fab, square
from nas.device import torch_threads
from tests.nas.trained_networks import small_network


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):  # the networks are too small for more
        yield


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network()


def set_default(monkeypatch: pytest.MonkeyPatch, kind: Any, option: str, value: int) -> None:
    """Another default for an option of an attack."""
    assert option in kind.__init__.__kwdefaults__
    monkeypatch.setitem(kind.__init__.__kwdefaults__, option, value)


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    set_default(monkeypatch, square.Square, "queries", 200)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (apgd.APGD, apgd.APGDT, fab.FAB, fab.FABT):
        set_default(monkeypatch, kind, "steps", 10)
    set_default(monkeypatch, carlini_wagner.CarliniWagner, "steps", 40)
