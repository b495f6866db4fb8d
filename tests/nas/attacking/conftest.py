"""A small trained network, and attacks that are quick."""

from __future__ import annotations

import pytest
from torch import nn

import nas.attacking.settings
from tests.nas.trained_networks import small_network


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network()


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.attacking.settings, "REFERENCE_QUERIES", 200)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.attacking.settings, "REFERENCE_STEPS", 10)
    monkeypatch.setattr(nas.attacking.settings, "CW_STEPS", 40)
