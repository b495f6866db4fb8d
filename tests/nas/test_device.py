"""Settings of torch that hold while a command runs."""

from __future__ import annotations

import pytest
import torch

from nas.device import tf32


@pytest.mark.parametrize("use", [True, False, None])
def test_tf32_is_set_and_restored(use: bool | None) -> None:
    def settings() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = settings()
    assert before == (False, True)  # torch's defaults
    with pytest.raises(KeyError), tf32(use):
        assert settings() == (before if use is None else (use, use))
        raise KeyError
    assert settings() == before
