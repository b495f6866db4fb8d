from __future__ import annotations

import pytest

from tests.searchers.toy_space import ToySpace


@pytest.fixture
def space() -> ToySpace:
    return ToySpace()
