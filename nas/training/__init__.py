"""Adversarial training: losses, adversary, schedules, checkpoints.

::

    from nas.training import TrainConfig, Trainer

    result = Trainer(TrainConfig(cell="ROBUST_ZCP", preset="quick")).run()

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import lazy_names

if TYPE_CHECKING:
    from nas.training.config import TrainConfig
    from nas.training.course import TrainResult
    from nas.training.trainer import Trainer

__all__ = ["TrainConfig", "TrainResult", "Trainer"]

_HOMES = {
    "TrainConfig": "nas.training.config",
    "Trainer": "nas.training.trainer",
    "TrainResult": "nas.training.course",
}
__getattr__ = lazy_names(__name__, _HOMES)
