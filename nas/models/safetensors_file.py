"""Checkpoints as safetensors files: weights that any program reads, the architecture as JSON in the metadata.

Format: https://huggingface.co/docs/safetensors. What training would need to go on is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.models.architecture import Architecture
from nas.models.checkpoint import FORMAT, Checkpoint
from search_spaces.base import SearchSpace

NAME = "nas-robust"


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise UserError("safetensors files need the package safetensors, which is not installed") from None
    return safetensors


def safetensors_bytes(checkpoint: Checkpoint) -> bytes:
    """The file's content.

    :raises UserError: the package safetensors is not installed.
    """
    metadata = {
        "program": NAME,
        "nas_format": str(FORMAT),
        "architecture": json.dumps(checkpoint.architecture.to_json()),
        "facts": json.dumps(checkpoint.facts),
    }
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in checkpoint.weights.items()}
    content: bytes = _safetensors().torch.save(weights, metadata)
    return content


def read_safetensors(path: Path, space: SearchSpace[Any] | None = None) -> Checkpoint:
    """:raises UserError: the file is missing, damaged, or not one of this program."""
    library = _safetensors()
    try:
        with library.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except library.SafetensorError:
        raise UserError(f"{path} is not a safetensors file, or is truncated") from None
    if metadata.get("program") != NAME or metadata.get("nas_format") != str(FORMAT):
        raise UserError(f"{path} is not a model of this program: its metadata name no architecture")
    try:
        facts = json.loads(metadata["facts"])
        architecture = Architecture.from_json(json.loads(metadata["architecture"]), space)
    except (UserError, ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(facts, dict):
        raise UserError(f"{path} is not a model of this program: its facts are damaged")
    return Checkpoint(architecture=architecture, weights=weights, facts=facts)
