"""Checkpoints as safetensors files: weights that any program reads, the architecture as JSON in the metadata.

Format: https://huggingface.co/docs/safetensors. What training would need to be resumed is left out. The content of a
checkpoint is here the dictionary that :mod:`nas.models.checkpoint` describes and checks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.files import kind

NAME = "nas-robust"


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        install = "pip install '.[export]'"
        raise UserError(f"safetensors files need the package safetensors, which is not installed: {install}") from None
    return safetensors


def safetensors_bytes(content: dict[str, Any]) -> bytes:
    """The content of a checkpoint as that of a safetensors file.

    :raises UserError: the package safetensors is not installed.
    """
    metadata = {
        "program": NAME,
        "nas_format": str(content["format"]),
        "architecture": json.dumps(content["architecture"]),
        "facts": json.dumps(content["facts"]),
    }
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in content["weights"].items()}
    stored: bytes = _safetensors().torch.save(weights, metadata)
    return stored


def read_safetensors(path: Path) -> dict[str, Any]:
    """The content of the checkpoint in a safetensors file.

    :raises UserError: the file is missing, damaged, or not one of this program.
    """
    library = _safetensors()
    if kind(path) not in ("file", None):  # the library would wait for a pipe
        raise UserError(f"{path} cannot be read: expected a file")
    try:
        with library.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except library.SafetensorError:
        raise UserError(f"{path} is not a safetensors file, or is truncated") from None
    if metadata.get("program") != NAME:
        raise UserError(f"{path} is not a model of this program: its metadata name no architecture")
    try:
        content = {name: json.loads(metadata[name]) for name in ("architecture", "facts")}
        return {"format": int(metadata["nas_format"]), "weights": weights, "training": {}, **content}
    except (ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{path} is not a model of this program: its metadata are damaged ({error})") from None
