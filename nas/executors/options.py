"""Checks of the options for executors, shared by the configurations that have these options."""

from __future__ import annotations

import dataclasses
from typing import Any

from nas.cli import bounds
from nas.cli.bounds import flag
from nas.errors import UserError
from nas.executors import EXECUTORS

#: Value of the metadata ``only_with`` for options that only the executor ``ray`` uses.
RAY = ("executor", "ray")


def check_executor(config: Any) -> None:
    """:raises UserError: ``--executor`` is unknown, or an option of its workers has an invalid value or no effect."""
    if config.executor not in EXECUTORS:
        raise UserError(f"--executor must be {' or '.join(EXECUTORS)}, got {config.executor}")
    if config.executor != "ray":
        for field in dataclasses.fields(config):
            if field.metadata.get("only_with") == RAY and getattr(config, field.name) != field.default:
                raise UserError(f"{flag(field.name)} has no use without --executor ray")
        return
    bounds.positive("cpus_per_worker", config.cpus_per_worker)
    gpus = config.gpus_per_worker
    if gpus is not None:
        bounds.number("gpus_per_worker", gpus)
    if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
        raise UserError(f"--gpus-per-worker must be a fraction up to 1 or a whole number, got {gpus:g}")
    if gpus and config.device == "cpu":
        raise UserError(f"--gpus-per-worker {gpus:g} has no use with --device cpu")
    if gpus == 0 and config.device.startswith("cuda"):
        raise UserError(f"--device {config.device} needs --gpus-per-worker above 0, got 0")
