"""Files of ``torch.save`` that hold tensors and plain values only. Reading one executes nothing."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import UserError
from nas.files import read_bytes, write
from nas.runs.schema import kind


def save(path: Path, content: Any) -> None:
    """Write the file, or replace it, whole or not at all.

    :raises Unwritable: the operating system refused.
    """
    stored = io.BytesIO()
    torch.save(content, stored)
    write(path, stored.getvalue())


def load(path: Path, what: str) -> Any:
    """The content of a file that :func:`save` has written, its tensors on the CPU.

    :param what: what an error message calls such a file, for instance ``a checkpoint``.
    :raises UserError: the file is missing, truncated, or asks for code to be run.
    """
    stored = read_bytes(path)
    if stored is None:
        raise UserError(f"{path} cannot be read: there is no such file")
    try:
        with zipfile.ZipFile(io.BytesIO(stored)) as parts:
            # compressed parts, which torch.save does not write, might need far more memory than the file has bytes
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError("a compressed part")
        return torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path} is refused: it holds more than tensors and plain values, or is damaged") from None
    except Exception:  # which error torch raises depends on the byte that is wrong
        raise UserError(f"{path} is not {what}, or is truncated") from None


def is_real(value: Any) -> bool:
    """Whether ``value`` is a dense tensor of real numbers, with memory for each of its elements."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_complex() or value.is_quantized or value.is_nested)
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


TENSOR = kind("a dense tensor of real numbers", is_real)
