"""The C library, for the tests of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
import torch

from search_spaces import native
from search_spaces.native_library import Library


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def library(one_thread: None) -> Library:
    """Where there is a compiler there must be a library."""
    found = native.library()
    if found is None and (os.environ.get("NAS_NATIVE") == "0" or not any(map(shutil.which, ("cc", "gcc", "clang")))):
        pytest.skip("needs a C compiler, and NAS_NATIVE not to be 0")
    assert found is not None, native.description()
    return found
