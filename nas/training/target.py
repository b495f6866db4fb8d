"""The network that a training configuration describes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from nas.errors import UserError, as_user_error
from nas.models.architecture import Architecture
from nas.training.config import TrainConfig
from nas.training.directory import read_training
from nas.training.presets import PRESETS
from search_spaces import get_space
from search_spaces.base import NetworkSpec, SearchSpace

_LEAST_PIXELS = 8  # least image height and width: the networks halve both two or three times
_LEAST_PIXELS_AUXILIARY = 29  # the auxiliary head pools features of a quarter of this size, rounded up: 8 at least
_MOST_LAYERS_TRIED = 100


def resolved(config: TrainConfig) -> TrainConfig:
    """The configuration with the search space and the depth of the network filled in.

    :raises UserError: the run has no best cell, the cell cannot be parsed, or the space has no network of that size.
    """
    if config.model is not None:
        return config
    name = config.space
    if config.run is not None:
        of_run, _ = best_cell(Path(config.run))
        if name not in (None, of_run):
            raise UserError(f"--space must be {of_run}, the space of --run {config.run}, got {name}")
        name = of_run
    assert name is not None
    space = as_user_error(lambda: get_space(name))
    if config.cell is not None:
        as_user_error(lambda: space.parse(config.cell or ""))
    layers = _depth(space, config) if config.layers is None else config.layers
    return dataclasses.replace(config, space=name, layers=layers)


def as_begun(config: TrainConfig, path: Path) -> TrainConfig:
    """The configuration; if it names no space or depth, those of the stored training in ``path`` are filled in."""
    stored = read_training(path)["configuration"]
    missing = [name for name in ("space", "layers") if getattr(config, name) is None]
    return dataclasses.replace(config, **{name: stored.get(name) for name in missing})


def architecture(
    config: TrainConfig,
    classes: tuple[str, ...],
    image_size: tuple[int, int],
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
) -> Architecture:
    """The network that a :func:`resolved` configuration trains.

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
    assert config.space is not None and config.channels is not None and config.layers is not None
    cell = config.cell if config.run is None else best_cell(Path(config.run))[1]
    space = get_space(config.space)
    genotype = as_user_error(lambda: space.format(space.parse(cell or "")))
    return Architecture(
        family=config.space, genotype=genotype, channels=config.channels, layers=config.layers,
        auxiliary=config.auxiliary > 0, **images,
    )  # fmt: skip


def best_cell(run: Path) -> tuple[str, str]:
    """Search space and genotype of the best cell that the search in ``run`` found.

    :raises UserError: the search is not finished, or its best cell cannot be read.
    """
    from nas.runs.directory import BEST, read_manifest

    space = read_manifest(run)["configuration"].get("space")
    try:
        best = json.loads((run / BEST).read_text())
    except FileNotFoundError:
        raise UserError(f"{run} holds no {BEST}: the search in it is not finished; --resume goes on with it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{run / BEST} cannot be read: {error}") from None
    genotype = best.get("genotype") if isinstance(best, dict) else None
    if not isinstance(genotype, str) or not isinstance(space, str):
        raise UserError(f"{run / BEST} is not the best cell of a search: it holds no genotype")
    return space, genotype


def _depth(space: SearchSpace[Any], config: TrainConfig) -> int:
    """The preset's depth, or, if the space has no network that deep, the next greater depth for which it has one."""
    least = PRESETS[config.preset]["layers"]
    for layers in range(least, _MOST_LAYERS_TRIED):
        try:
            space.check_spec(NetworkSpec(layers=layers))
        except ValueError:
            continue
        return layers
    raise UserError(f"--layers is needed: space '{space.name}' has no network of {least} layers or more")
