"""Trains the best cells of a search in competition; cells with lower robust accuracy are stopped early.

::

    from nas.retraining import RetrainConfig, Retrainer

    result = Retrainer(RetrainConfig(run="runs/NAME", top=5, executor="local")).run()
    print(result.best["run"])

Importing this package imports neither torch nor ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import lazy_names

if TYPE_CHECKING:
    from nas.retraining.config import RetrainConfig
    from nas.retraining.retrainer import Retrainer, RetrainResult

__all__ = ["RetrainConfig", "RetrainResult", "Retrainer"]

_HOMES = {
    "RetrainConfig": "nas.retraining.config",
    "Retrainer": "nas.retraining.retrainer",
    "RetrainResult": "nas.retraining.retrainer",
}
__getattr__ = lazy_names(__name__, _HOMES)
