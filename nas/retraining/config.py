"""The configuration of a retraining: the options of a training, and those of the competition between the cells."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from nas.cli import bounds
from nas.cli.fields import option, path_option
from nas.errors import UserError
from nas.executors.options import RAY, check_executor
from nas.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class RetrainConfig(TrainConfig):
    """All settings of a retraining; the training options are those of :class:`~nas.training.config.TrainConfig`.

    Fields marked ``free``, among them the executor, may change when a retraining is resumed.
    """

    run: str | None = path_option(None, "run directory of the search whose best cells are trained", free=True)
    cell: str | None = field(init=False, default=None)
    model: str | None = field(init=False, default=None)
    space: str | None = field(init=False, default=None)
    front: bool = option(False, "train the cells of the run's front.json instead of its best cells")
    top: int | None = option(
        None, "number of best cells to train (default: 5; with --front: all, or so many spread over it, with the knee)"
    )
    reduction_factor: float = option(3.0, "factor by which each cut reduces the number of cells: 3 keeps about a third")
    grace_epochs: int = option(None, "epochs before the first cut (default: --epochs / the factor squared, rounded up)")
    executor: Literal["ray", "local"] = option(
        "ray", "ray: trials of Ray Tune under ASHA; local: the same cuts in this process, one cell after the other",
        free=True,
    )  # fmt: skip
    workers: int | None = option(
        None, "ray: cells trained at a time (default: as many as there is room for)", free=True, only_with=RAY
    )
    cpus_per_worker: float = option(1.0, "ray: cores reserved for a cell", free=True, only_with=RAY)
    gpus_per_worker: float | None = option(
        None, "ray: GPUs reserved for a cell, a fraction shares one (default: 1 on cuda)", free=True, only_with=RAY
    )
    address: str | None = option(
        None, "ray: cluster to join (default: RAY_ADDRESS, else a private one on this machine)",
        free=True, only_with=RAY,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.run is None:
            raise UserError("expected --run RUN, the directory of a search, got none")
        super().__post_init__()
        if self.top is None and not self.front:
            self._set("top", 5)
        if self.top is not None:
            bounds.whole("top", self.top)
        bounds.number("reduction_factor", self.reduction_factor)
        if self.reduction_factor <= 1:
            raise UserError(f"--reduction-factor must be above 1, got {self.reduction_factor:g}")
        if self.grace_epochs is None:
            self._set("grace_epochs", math.ceil(self.epochs / self.reduction_factor**2))
        bounds.whole("grace_epochs", self.grace_epochs)
        if self.grace_epochs > self.epochs:
            raise UserError(f"--grace-epochs must be at most --epochs ({self.epochs}), got {self.grace_epochs}")
        if self.method == "none":
            raise UserError("--method none has no use here: cells compete by robust accuracy")
        if self.validation == 0:
            raise UserError("--validation must be above 0, got 0: cells are compared on the images held out")
        if self.workers is not None:
            bounds.whole("workers", self.workers)
        check_executor(self)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which cells are compared and cut (ASHA's rungs), without the last epoch."""
        rungs: list[int] = []
        while (epoch := math.ceil(self.grace_epochs * self.reduction_factor ** len(rungs))) < self.epochs:
            rungs.append(epoch)
        return tuple(rungs)

    def for_cell(self, space: str, genotype: str) -> TrainConfig:
        """The training configuration of one cell."""
        names = {each.name for each in dataclasses.fields(TrainConfig)} - {"run", "cell", "model", "space"}
        return TrainConfig(cell=genotype, space=space, **{name: getattr(self, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        """JSON values by field name, in the form that the manifest stores and ``--config`` reads."""
        given = {each.name for each in dataclasses.fields(self) if each.init}
        return {name: value for name, value in super().to_json().items() if name in given}
