"""The embedded images, read once."""

from __future__ import annotations

import pytest

from nas.images.data import ImageData, load_data


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_data("digits")
