"""What ``--train`` will need after a search, checked before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch

from nas.attacking.base import check_attacks
from nas.attacking.registry import get_attack
from nas.device import torch_device
from nas.errors import UserError
from nas.images.data import ImageData
from nas.searching.config import SearchConfig
from nas.searching.untrained import UntrainedNetworks
from nas.training.config import TrainConfig
from nas.training.images import held_out, pixel_statistics
from nas.training.learner import check_drop_path
from nas.training.target import architecture, resolved


def check_training_ahead(config: SearchConfig, source: UntrainedNetworks, preset: str, attacks: Sequence[str]) -> None:
    """Check that a cell of the search can be trained by ``preset`` on its images and then be attacked.

    :param attacks: names of the attacks.
    :raises UserError: it cannot: too few images, no test images, images or classes that training or attacks do not
        take, or a package or device that is not there.
    """
    try:
        torch_device(config.device)
        _check_network(config, source, preset)
        _check_attacks(source.data, attacks)
    except UserError as error:
        raise UserError(f"--train {preset}: {error}") from None


def _check_network(config: SearchConfig, source: UntrainedNetworks, preset: str) -> None:
    space, split = source.space, source.data.train
    cell = space.format(space.sample(np.random.default_rng(0)))  # which one does not matter
    wanted = TrainConfig(
        cell=cell, space=space.name, preset=preset, dataset=config.dataset, image_size=config.image_size,  # type: ignore[arg-type]
        seed=config.seed,
    )  # fmt: skip
    wanted = resolved(wanted, space)
    held_out(split, wanted.images, wanted.validation, wanted.seed)
    height, width = split.images.shape[2:]
    statistics = pixel_statistics(split.images[:1].permute(0, 2, 3, 1))
    trained = architecture(wanted, split.classes, (height, width), statistics, space)
    if wanted.drop_path:
        with torch.random.fork_rng(devices=[]):
            check_drop_path(trained.network(), wanted.drop_path)


def _check_attacks(data: ImageData, attacks: Sequence[str]) -> None:
    if not find_spec("torchattacks"):
        raise UserError("attacks need the package torchattacks, which is not installed")
    (*_, height, width), (*_, test_height, test_width) = data.train.images.shape, data.test.images.shape
    if (height, width) != (test_height, test_width):
        raise UserError(
            f"test images of {data.name} have {test_width}x{test_height} pixels, expected {width}x{height} like the"
            " training images; --image-size N resizes to NxN"
        )
    check_attacks([get_attack(name, classes=len(data.classes)) for name in attacks], height, width)
