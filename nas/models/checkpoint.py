"""Trained classifiers on disk: written whole or not at all, read without executing anything.

A checkpoint is a ``torch.save`` file of plain values and tensors: ``format``, ``architecture``
(:class:`~nas.models.architecture.Architecture`), ``weights`` (the classifier's state), ``facts`` (how it was trained,
plain values; ``dataset`` names the images) and ``training`` (optimiser, averages, position; empty unless training can
be resumed from it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import UserError
from nas.files import as_path, kind
from nas.models.architecture import Architecture, Classifier
from nas.models.safetensors_file import read_safetensors
from nas.runs.schema import COUNT, FINITE, TEXT, WHOLE, by_name, each, fields, maybe, plain, shown
from nas.torch_files import TENSOR, save
from nas.torch_files import load as load_plain
from search_spaces.base import SearchSpace

FORMAT = 1
TRAIN = "train"  # the folder of a run directory that holds what training writes
BEST = "best.pt"
LAST = "last.pt"
SAFETENSORS = ".safetensors"
_SURPLUS = 10**7  # weights; a network that has so many more than the file is not built only to be compared

#: the record of an epoch; the numbers of the epochs of a history are 1, 2, 3, ...
EPOCH = fields(
    {
        "epoch": COUNT, "loss": FINITE, "train_accuracy": FINITE, "learning_rate": FINITE, "images_per_second": FINITE,
        "seconds": FINITE,
    },
    {"validation_accuracy": FINITE, "validation_robust_accuracy": FINITE},
)  # fmt: skip
_TRAINING = {
    "epochs": WHOLE,
    "momenta": each(maybe(TENSOR)),
    "average": fields({}, {"steps": WHOLE, "own": by_name(TENSOR)}),
}
_CONTENT = fields(
    {
        "weights": by_name(TENSOR),
        "facts": fields({}, {"dataset": TEXT, "history": each(EPOCH)}),
        "training": fields({}, _TRAINING),
    }
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A stored classifier. ``training`` is empty unless training can be resumed from it."""

    architecture: Architecture
    weights: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """What a file holds: plain values and tensors."""
        return {
            "format": FORMAT,
            "architecture": self.architecture.to_json(),
            "weights": self.weights,
            "facts": self.facts,
            "training": self.training,
        }

    def save(self, path: Path) -> None:
        """Writes the file at ``path``, or replaces it, whole or not at all.

        :raises Unwritable: the operating system refused.
        """
        save(path, self.content())

    def classifier(self) -> Classifier:
        """The classifier in eval mode, on the CPU.

        :raises UserError: the weights are those of another network.
        """
        held, needed = sum(each.numel() for each in self.weights.values()), self.architecture.cost().params
        if needed > held + _SURPLUS:
            raise UserError(f"the checkpoint holds {held:,} weights, expected at least {needed:,} by its architecture")
        with torch.random.fork_rng(devices=[]):
            model = self.architecture.build()
        fit_weights(model, self.weights)
        return model.eval()


def fit_weights(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Loads ``weights`` into ``model``.

    :raises UserError: they are those of another network; the first differing tensor is named.
    """
    check_fit(model.state_dict(), weights)
    model.load_state_dict(weights)


def check_fit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """:raises UserError: ``weights`` have other names or shapes than a network's ``own``; the first one is named."""
    for name in [*own, *weights]:
        got = tuple(weights[name].shape) if name in weights else "no such tensor"
        expected = tuple(own[name].shape) if name in own else "no such tensor"
        if got != expected:
            raise UserError(f"the checkpoint is of another architecture: {name} is {got}, expected {expected}")


def find_checkpoint(path: Path, name: str = BEST) -> Path:
    """The file itself, or the checkpoint ``train/best.pt`` of a run directory.

    :param name: of the checkpoint, if not ``best.pt``.
    :raises UserError: there is none.
    """
    if kind(path) == "folder":
        found = next((each for each in (path / TRAIN / name, path / name) if kind(each) == "file"), None)
        if found is None:
            raise UserError(
                f"{path} holds no trained model: expected {path / TRAIN / name}; python -m nas.train makes it"
            )
        return found
    if kind(path) is None:
        raise UserError(f"{path} does not exist, expected a checkpoint or a run directory")
    return path


def read_checkpoint(path: Path, space: SearchSpace[Any] | None = None) -> Checkpoint:
    """The checkpoint in a file. Nothing in it is executed.

    :param path: of a ``torch.save`` file, or of ``*.safetensors`` as ``nas.export`` writes it.
    :param space: the network's search space, where it is none of this program's.
    :raises UserError: it is missing, truncated, of another program, or asks for code to be run.
    """
    content = read_safetensors(path) if path.suffix == SAFETENSORS else load_plain(path, "a checkpoint")
    stored = content.get("format", "none") if isinstance(content, dict) else type(content).__name__
    if type(stored) is not int or stored != FORMAT:
        got = stored if type(stored) is str else shown(stored)
        raise UserError(f"{path} is not a checkpoint of this program: its format is {got}, expected {FORMAT}")
    try:
        _CONTENT(content, "")
        plain(content["facts"], "facts")
    except ValueError as error:
        raise UserError(f"{path} is not a checkpoint of this program, or is damaged: {error}") from None
    try:
        architecture = Architecture.from_json(content.get("architecture"), space)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    parts = {name: content[name] for name in ("weights", "facts", "training")}
    return Checkpoint(architecture=architecture, **parts)


def load(path: str | Path, space: SearchSpace[Any] | None = None) -> Classifier:
    """The best model of a run directory, or of a checkpoint file: images ``(N, C, H, W)`` in [0, 1] -> logits.

    In eval mode, on the CPU, normalisation inside.

    :param space: the model's search space, where it is none of this program's.
    :raises UserError: there is none, it cannot be read, or it is of another space.
    """
    return read_checkpoint(find_checkpoint(as_path("path", path)), space).classifier()
