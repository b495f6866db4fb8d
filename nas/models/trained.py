"""A trained model and its test images, for the commands that evaluate it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import UserError
from nas.images.data import ImageData, ImageSplit, balanced_order, load_data
from nas.images.memory import check_memory
from nas.models.architecture import Classifier
from nas.models.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from search_spaces.base import SearchSpace


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A checkpoint, and the file that it was read from."""

    path: Path
    checkpoint: Checkpoint

    @classmethod
    def read(cls, path: Path, space: SearchSpace[Any] | None = None) -> TrainedModel:
        """The model of a run directory or of a checkpoint file.

        :param space: the model's search space, where it is none of this program's.
        :raises UserError: there is none, or it cannot be read.
        """
        found = find_checkpoint(path)
        return cls(found, read_checkpoint(found, space))

    def classifier(self) -> Classifier:
        """In eval mode, on the CPU."""
        return self.checkpoint.classifier()

    @property
    def dataset(self) -> str | None:
        """The data set it was trained on, where the checkpoint says so."""
        name = self.checkpoint.facts.get("dataset")
        return name if isinstance(name, str) and name else None

    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 over architecture and weights."""
        digest = hashlib.sha256(json.dumps(self.checkpoint.architecture.to_json(), sort_keys=True).encode())
        for name, tensor in sorted(self.checkpoint.weights.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """The description of the model in a result: file, fingerprint, architecture, size, training."""
        architecture, cost = self.checkpoint.architecture, self.checkpoint.architecture.cost()
        return {
            "checkpoint": str(self.path),
            "fingerprint": self.fingerprint(),
            "architecture": architecture.to_json(),
            "params": cost.params,
            "macs": cost.macs,
            "facts": self.checkpoint.facts,
        }


def images_for(
    model: TrainedModel, name: str | None, *, data_dir: str, download: bool, image_size: int | None
) -> ImageData:
    """The data set called ``name``, by default the one that the model was trained on, then at the size of the training.

    :raises UserError: no name is known, or its classes or images are not those of the model.
    """
    architecture = model.checkpoint.architecture
    height, width = architecture.image_size
    chosen = name or model.dataset
    if chosen is None:
        raise UserError(f"{model.path} does not say what it was trained on: --dataset must name the images")
    if image_size is None and chosen == model.dataset and height == width:
        image_size = height
    data = load_data(chosen, data_dir=data_dir, download=download, image_size=image_size)
    if len(data.classes) != len(architecture.classes):
        raise UserError(
            f"{chosen} has {len(data.classes)} classes, expected the {len(architecture.classes)} of {model.path}"
        )
    for number, (got, expected) in enumerate(zip(data.classes, architecture.classes, strict=True)):
        if got != expected:
            raise UserError(f"class {number} of {chosen} is '{got}', expected '{expected}' as in {model.path}")
    shape, expected_shape = tuple(data.test.images.shape[1:]), (len(architecture.mean), height, width)
    if shape != expected_shape:
        raise UserError(
            f"images of {chosen} have {_size(shape)}, expected {_size(expected_shape)} as in {model.path};"
            " --image-size N resizes to NxN"
        )
    return data


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]} pixels of {shape[0]} channels"


def attack_batch(split: ImageSplit, samples: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """The first ``samples`` images in balanced order, by default all, float32 ``(N, C, H, W)`` in [0, 1], and labels.

    :raises UserError: there are fewer.
    """
    if samples is not None and samples > len(split.labels):
        raise UserError(f"--samples must be at most the {len(split.labels)} test images, got {samples}")
    chosen = balanced_order(split, seed)[:samples]
    check_memory(f"{len(chosen):,} test images in float32", 4 * len(chosen) * split.images[0].numel())
    return split.images[chosen].to(torch.float32) / 255, split.labels[chosen]
