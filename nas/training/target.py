"""The network that a training configuration describes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from nas.errors import UserError, as_user_error
from nas.files import as_path
from nas.models.architecture import Architecture
from nas.runs.cells import best_cell
from nas.runs.directory import check_best, read_manifest
from nas.searching.chosen_space import network_size
from nas.spaces import FINGERPRINT, known_space, own_fingerprint
from nas.training.config import TrainConfig
from nas.training.directory import read_training
from nas.training.presets import PRESETS
from search_spaces.base import NetworkSpec, SearchSpace

_LEAST_PIXELS = 8  # least image height and width: the networks halve both two or three times
_LEAST_PIXELS_AUXILIARY = 29  # the auxiliary head pools features of a quarter of this size, rounded up: 8 at least
_MOST_LAYERS_TRIED = 100


def resolved(config: TrainConfig, space: SearchSpace[Any] | None = None) -> TrainConfig:
    """The configuration with the search space and the size of the network filled in.

    :param space: the network's search space, where it is not one of this program's.
    :raises UserError: the run has no best cell, the cell cannot be parsed, or the space has no network of that size.
    """
    if config.model is not None:
        return config
    found = _space(config, space)
    if config.cell is not None:
        try:
            found.parse(config.cell)
        except ValueError as error:
            raise UserError(f"{error}; it must be of the space {found.name}, --space names another") from None
    size = network_size(found, {"channels": config.channels, "layers": config.layers})
    if config.channels is None and size["channels"] is not None:
        size["channels"] = _width(found, config)
    if config.layers is None and size["layers"] is not None:
        size["layers"] = _depth(found, config)
    return dataclasses.replace(config, space=found.name, channels=size["channels"], layers=size["layers"])


def _space(config: TrainConfig, given: SearchSpace[Any] | None) -> SearchSpace[Any]:
    """The space of the configuration's cell, which is that of its run."""
    if config.run is None:
        assert config.space is not None
        return known_space(config.space, given)
    run = as_path("run", config.run)
    name = best_cell(run)[0]
    if config.space not in (None, name):
        raise UserError(f"--space must be {name}, the space of --run {config.run}, got {config.space}")
    found = known_space(name, given, read_manifest(run).get(FINGERPRINT))
    check_best(run, found)
    return found


def as_begun(config: TrainConfig, path: Path) -> TrainConfig:
    """The configuration; where it names no space, size or validation images, those of the training in ``path``."""
    stored = read_training(path)["configuration"]
    missing = [name for name in ("space", "channels", "layers", "validation") if getattr(config, name) is None]
    return dataclasses.replace(config, **{name: stored.get(name) for name in missing})


def architecture(
    config: TrainConfig,
    classes: tuple[str, ...],
    image_size: tuple[int, int],
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    space: SearchSpace[Any] | None = None,
) -> Architecture:
    """The network that a :func:`resolved` configuration trains.

    :param space: the network's search space, where it is not one of this program's.
    :param image_size: height and width in pixels. :param statistics: mean and standard deviation of each channel, in
        pixel units of [0, 1].
    :raises UserError: the images are too small, or the space has no such network.
    """
    mean, std = statistics
    images: dict[str, Any] = {"classes": classes, "image_size": image_size, "mean": mean, "std": std}
    least = _LEAST_PIXELS_AUXILIARY if config.auxiliary else _LEAST_PIXELS
    if min(image_size) < least:
        what = "an auxiliary head" if config.auxiliary else "the network"
        raise UserError(f"{what} needs images of at least {least}x{least} pixels, got {image_size[0]}x{image_size[1]}")
    if config.model is not None:
        return Architecture(family=config.model, **images)
    found = _space(config, space)
    cell = config.cell if config.run is None else best_cell(as_path("run", config.run))[1]
    genotype = as_user_error(lambda: found.format(found.parse(cell or "")))
    return Architecture(
        family=found.name, genotype=genotype, channels=config.channels, layers=config.layers,
        auxiliary=config.auxiliary > 0, space=space, space_fingerprint=own_fingerprint(found), **images,
    )  # fmt: skip


def _width(space: SearchSpace[Any], config: TrainConfig) -> int | None:
    """The preset's channels, which are those of cells; in another space those of its published networks.

    The preset for a CPU takes the size that the space is searched at there.
    """
    if space.published_channels is None:
        channels: int = PRESETS[config.preset]["channels"]
        return channels
    return space.default_channels if config.preset == "quick" else space.published_channels


def _depth(space: SearchSpace[Any], config: TrainConfig) -> int:
    """The preset's depth, or, if the space has no network that deep, the next greater depth for which it has one."""
    least = PRESETS[config.preset]["layers"]
    for layers in range(least, _MOST_LAYERS_TRIED):
        try:
            space.check_spec(NetworkSpec(channels=space.default_channels, layers=layers))
        except ValueError:
            continue
        return layers
    raise UserError(f"--layers is needed: space '{space.name}' has no network of {least} layers or more")
