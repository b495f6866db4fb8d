"""Runs a retraining from its configuration to the results of the cells in ``retrain.json``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.cli.fields import differences
from nas.device import torch_device, worker_device
from nas.errors import Stopped, UserError
from nas.executors.private_cluster import chosen_cluster
from nas.files import as_path, check_free, kind
from nas.images.data import ImageSplit, fingerprint
from nas.models.checkpoint import EPOCH
from nas.report.ranking import ranking
from nas.retraining.config import RetrainConfig
from nas.retraining.halving import METRIC, SCRATCH, Contender, Watch, halve
from nas.runs import environment
from nas.runs.directory import FRONT, TRIALS, check_cell, read_manifest, write_json
from nas.runs.ending import noted
from nas.runs.front import read_front
from nas.runs.json_lines import locked
from nas.runs.reader import read_run
from nas.runs.schema import COUNT, FINITE, TEXT, WHOLE, Check, by_name, each, fields, maybe, shown
from nas.spaces import FINGERPRINT, known_space
from nas.training.course import best_epoch
from nas.training.images import held_out, pixel_statistics
from nas.training.target import architecture, resolved
from nas.training.trainer import check_precision, training_images
from search_spaces.base import SearchSpace
from searchers.fronts import spread

FOLDER = "retrain"
MANIFEST = "retrain.json"
FORMAT = 1
_CELL = fields(
    {"number": COUNT, "key": TEXT, "space": TEXT, "genotype": TEXT, "scores": by_name(maybe(FINITE))},
    {"id": WHOLE, "status": TEXT, "epochs": WHOLE, "best": maybe(EPOCH), "error": maybe(TEXT), "run": TEXT},
)
_OWN: dict[str, Check] = {
    "rungs": each(COUNT),
    "data": fields({}, {"name": TEXT, "fingerprint": TEXT}),
    "cells": each(_CELL),
}


def cell_folder(number: int) -> str:
    """The name of the folder of a cell's training."""
    return f"cell-{number}"


@dataclass(frozen=True, kw_only=True)
class RetrainResult:
    """The result of a retraining: ``cells`` are the records of ``retrain.json``, best first."""

    path: Path
    cells: list[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any]:
        """The record of the cell with the highest robust validation accuracy among those trained to the last epoch."""
        return self.cells[0]


class Retrainer:
    """One retraining, in the folder ``retrain`` of a search's run directory: ``cell-1`` is the search's best cell.

    :param resume: resume the retraining in that folder.
    :param space: the search space of the run, where it is not one of this program's.
    :raises UserError: an option is not valid, or the run has no cells to train.
    """

    def __init__(self, config: RetrainConfig, *, resume: bool = False, space: SearchSpace[Any] | None = None):
        assert config.run is not None
        self.config = config
        run = as_path("run", config.run)
        self.path = run / FOLDER
        self.resume = resume
        self.space = space
        self.cells = self._stored()["cells"] if resume else chosen_cells(run, config)
        self._check_path()
        ray = config.executor == "ray"
        device = worker_device(config.device, config.gpus_per_worker) if ray else torch_device(config.device)
        check_precision(config, device)
        searched = known_space(self.cells[0]["space"], space, read_manifest(run).get(FINGERPRINT))
        source = self.path / MANIFEST if resume else run / (FRONT if config.front else TRIALS)
        for cell in self.cells:
            check_cell(source, searched, cell["genotype"], cell["key"])
        self.contenders = [self._contender(cell, device) for cell in self.cells]

    def _contender(self, cell: dict[str, Any], device: str) -> Contender:
        config = dataclasses.replace(self.config.for_cell(cell["space"], cell["genotype"]), device=device)
        out = (self.path / cell_folder(cell["number"])).resolve()
        return Contender(number=cell["number"], config=resolved(config, self.space), out=out, space=self.space)

    @cached_property
    def chosen(self) -> tuple[ImageSplit, Tensor, Tensor]:
        """The training images, read on first use, and the indices of those that every cell is trained on, and held out.

        :raises UserError: the images cannot be read, or are too few.
        """
        config = self.config
        images = training_images(self.contenders[0].config)
        trained, held = held_out(images, config.images, config.validation, config.seed)
        if not len(held):
            raise UserError(
                f"cells are compared on images held out, got {len(images.labels)} training images, of which"
                " --validation holds out none"
            )
        return images, trained, held

    def run(self, watch: Watch | None = None) -> RetrainResult:
        """Train and cut the cells, and write ``retrain.json``. Each epoch is written to disk as soon as it is finished.

        :param watch: called with a cell's number and the record of each epoch that it has finished.
        :raises UserError: the directory holds another retraining, or files cannot be read or written.
        :raises Stopped: no cell could be trained to the last epoch.
        :raises MachineFailed: the machine lacks memory or something else; the message says how to resume.
        :raises KeyboardInterrupt: the user interrupted the retraining; likewise.
        """
        config = self.config
        watch = watch or (lambda number, epoch: None)
        images = self.chosen[0]
        kind = (
            images.classes,
            (images.images.shape[2], images.images.shape[3]),
            pixel_statistics(images.images[:1].permute(0, 2, 3, 1)),
        )
        for contender in self.contenders:
            architecture(contender.config, *kind, self.space)
        with ExitStack() as stack:
            if config.executor == "ray":
                chosen_cluster(config.address)  # before ray is imported
                from nas.retraining.tune import Trials

                compete: Callable[[], None] = stack.enter_context(
                    Trials(config, self.contenders, self.path, images, watch)
                ).run
            else:
                compete = partial(
                    halve, self.contenders, config.rungs, config.epochs, config.reduction_factor, images, watch
                )
            stack.callback(locked(self.path / ".lock", str(self.path)).release)
            return self._run(images, compete)

    def _run(self, images: ImageSplit, compete: Callable[[], None]) -> RetrainResult:
        config = self.config
        with noted(lambda status: None, self._how_to_go_on):
            self._check_path()  # checked again under the lock, since another process may have written before it
            manifest = {
                "command": "retrain",
                "format": FORMAT,
                "configuration": config.to_json(),
                "rungs": list(config.rungs),
                "data": {"name": config.dataset, "fingerprint": fingerprint(images)},
                "versions": environment.versions(("ray",) if config.executor == "ray" else ()),
                "git_commit": environment.git_commit(),
                "cells": self.cells,
            }
            write_json(self.path / MANIFEST, manifest)
            compete()
            outcomes = [{**cell, **self._outcome(each)} for cell, each in zip(self.cells, self.contenders, strict=True)]
            write_json(self.path / MANIFEST, {**manifest, "cells": outcomes})
        if not any(each["status"] == "finished" for each in outcomes):
            raise Stopped(f"no cell was trained to the end; the first failed with: {outcomes[0]['error']}")
        return RetrainResult(path=self.path, cells=sorted(outcomes, key=_merit, reverse=True))

    def _how_to_go_on(self) -> str:
        again = f"python -m nas.retrain --resume {shlex.quote(str(self.config.run))}"
        return f"with all finished epochs kept; to go on: {again}"

    def _outcome(self, contender: Contender) -> dict[str, Any]:
        history = contender.history()
        error = contender.failure() if len(history) < self.config.epochs else None
        status = "finished" if len(history) == self.config.epochs else "failed" if error is not None else "stopped"
        return {
            "status": status, "epochs": len(history), "best": best_epoch(history, contender.config), "error": error,
            "run": str(self.path / contender.out.name),
        }  # fmt: skip

    def _check_path(self) -> None:
        """:raises UserError: the directory holds another retraining than the one to start or resume."""
        if not self.resume:
            if kind(self.path / MANIFEST) is not None:
                raise UserError(
                    f"{self.path} already holds a retraining; pass --resume to go on with it, or move it away"
                )
            check_free(self.path / SCRATCH, *(self.path / cell_folder(cell["number"]) for cell in self.cells))
            return
        differing = differences(self._stored()["configuration"], self.config)
        if differing:
            raise UserError(f"cannot resume {self.path} with another configuration: {', '.join(differing)}")

    def _stored(self) -> dict[str, Any]:
        manifest = read_retraining(self.path.parent)
        numbers = [cell["number"] for cell in manifest.get("cells", [])]
        if not numbers or len(set(numbers)) < len(numbers):
            raise UserError(f"{self.path / MANIFEST} is damaged: the numbers of its cells are {shown(numbers)}")
        return manifest


def read_retraining(run: Path) -> dict[str, Any]:
    """The manifest of the retraining in ``run``.

    :raises UserError: there is none, or it cannot be read.
    """
    if kind(run / FOLDER / MANIFEST) is None:
        raise UserError(f"{run} holds no retraining to go on with: expected {run / FOLDER / MANIFEST}")
    return read_manifest(run / FOLDER, MANIFEST, command="retrain", own=_OWN)


def chosen_cells(run: Path, config: RetrainConfig) -> list[dict[str, Any]]:
    """Records of the cells that the search in ``run`` ranks best, or of those of its front, as the configuration says.

    :raises UserError: the run has no cell with a score, or no front.
    """
    record = read_run(run)
    space = record.manifest["configuration"].get("space")
    if config.front:
        front = read_front(run)
        ranked = spread(front.trials, front.directions, config.top or len(front.trials), front.knee)
    else:
        ranked = ranking(record.trials, record.proxies, record.objectives)[: config.top]
    if not ranked or not isinstance(space, str):
        raise UserError(f"{run} holds no cell with a score, expected those of a search")
    return [
        {
            "number": number, "id": trial.id, "key": trial.key, "space": space, "genotype": trial.genotype,
            "scores": trial.scores,
        }
        for number, trial in enumerate(ranked, start=1)
    ]  # fmt: skip


def _merit(cell: dict[str, Any]) -> tuple[bool, int, float]:
    """Sort key: first whether the cell was trained to the last epoch, then number of epochs, then robust accuracy."""
    return cell["status"] == "finished", cell["epochs"], cell["best"][METRIC] if cell["best"] else -1.0
