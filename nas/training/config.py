"""The configuration of a training: each option is defined here once, with its default, help text and bounds."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal

from nas import norms
from nas.cli import bounds
from nas.cli.bounds import flag, fraction, number, whole
from nas.cli.fields import check_types, option, path_option
from nas.errors import UserError, unknown
from nas.files import as_path
from nas.models.names import CLASSIC_NAMES
from nas.training.presets import EPSILON, EPSILON_L2, MIRRORED, STEPS, default_step_size, preset_values
from search_spaces import SPACES

FRACTION = float | str  # a number, or a string such as "8/255"
EPOCHS = int | str | list[int]  # one epoch, several, or a string such as "100,150"
_CELL_OPTIONS = ("space", "channels", "layers", "auxiliary", "drop_path")  # do not apply to a hand-crafted network
_SOME = "(default: the preset's)"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a training. Together with software versions and hardware they determine the trained weights.

    A field that is not given (None) is filled in from the preset and from the other fields. Fields marked ``free`` may
    change when a training is resumed.
    """

    run: str | None = path_option(None, "train the best cell of the search in this run directory")
    cell: str | None = option(
        None, "train this cell: a published one by name, Genotype(...) text, JSON, or a search's directory or best.json"
    )
    model: str | None = option(None, f"train a hand-crafted network: {', '.join(CLASSIC_NAMES)}")
    space: str | None = option(
        None, f"search space: {', '.join(SPACES)}, or module:Class of your own (default: that of --run, or darts)"
    )
    preset: Literal["quick", "tiny_robustbench", "table"] = option("quick", "protocol that gives the other defaults")
    method: Literal["pgd", "trades", "mart", "fast", "none"] = option(None, f"training method {_SOME}")
    norm: Literal["Linf", "L2"] = option("Linf", "norm that bounds the perturbation")
    epsilon: float = option(
        None, "radius of the perturbation in [0, 1] pixels, such as 8/255 (the default; L2: 128/255)", accepts=FRACTION
    )
    attack_steps: int | None = option(None, "steps of the adversary in training (default: the preset's or method's)")
    step_size: float | None = option(
        None, "length of a step (default: the preset's, else 2.5 epsilon / steps; fast: 1.25 epsilon)", accepts=FRACTION
    )
    attack_mode: Literal["eval", "train"] = option("eval", "mode of the model while adversarial images are crafted")
    trades_beta: float | None = option(None, "trades: weight of the divergence (default: 6)")
    mart_beta: float | None = option(None, "mart: weight of the divergence (default: 5)")
    gradient_alignment: float | None = option(None, "fast: weight of GradAlign's regulariser (default: 0)")
    epochs: int = option(None, f"passes over the training images {_SOME}")
    batch_size: int = option(None, f"images per step {_SOME}")
    learning_rate: float = option(None, f"highest learning rate of SGD {_SOME}")
    momentum: float = option(None, f"momentum of SGD {_SOME}")
    weight_decay: float = option(None, f"weight decay of SGD {_SOME}")
    schedule: Literal["multistep", "cosine", "one_cycle"] = option(None, f"learning-rate schedule {_SOME}")
    milestones: tuple[int, ...] = option(
        None, f"multistep: epochs after which the rate is divided by 10, such as 100,150 {_SOME}", accepts=EPOCHS
    )
    label_smoothing: float = option(0.0, "share of each label that is spread over all classes")
    ema: float = option(0.0, "decay of the exponential average of the weights, such as 0.999; 0: no average")
    auxiliary: float = option(None, f"weight of an auxiliary head's loss; 0: no head {_SOME}")
    drop_path: float = option(None, f"probability of dropping a path, rising linearly from 0 over the epochs {_SOME}")
    gradient_clip: float = option(None, f"clip the gradient to this L2 norm; 0: no clipping {_SOME}")
    validation: float | None = option(
        None,
        "training images held out to choose the best epoch: a number from 1, or a share below 1 (default: 1000, or a"
        " tenth of the images where that is less)",
        accepts=FRACTION,
    )
    validation_steps: int = option(5, "PGD steps of the robust validation accuracy")
    channels: int | None = option(None, f"channels of the first cell, where the space has any {_SOME}")
    layers: int | None = option(None, "cells in the network (default: the preset's, or the next depth the space has)")
    dataset: str = option(
        None,
        "images: digits, cifar10, cifar100, svhn or folder:PATH (PATH/train/CLASS/IMAGE)"
        " (default: those of the search in --run, else digits)",
    )
    data_dir: str = path_option("data", "where cifar10, cifar100 and svhn are kept", free=True)
    download: bool = option(False, "fetch the data set if it is not in --data-dir", free=True)
    image_size: int | None = option(None, "resize the images to this many pixels square")
    images: int | None = option(None, "number of images to train on, class-balanced (default: all)")
    crop: bool = option(None, "random crops, true or false (default: true)")
    flip: bool = option(
        None, "random horizontal flips, true or false (default: true for cifar10, cifar100, folder:PATH, else false)"
    )
    seed: int = option(0, "seed of weights, order, augmentation and noise")
    device: str = option("auto", "cpu, cuda, cuda:N, or auto: cuda where there is one", free=True)
    threads: int | None = option(None, "threads of torch's operations on the CPU (default: torch's)", free=True)
    precision: Literal["float32", "bfloat16"] = option("float32", "bfloat16: mixed precision, on cuda only")
    tf32: bool | None = option(
        None, "on cuda, TF32 in float32 convolutions and matrix products, true or false (default: in convolutions only)"
    )
    compile: bool = option(False, "compile the network with torch.compile")
    cuda_graphs: bool = option(
        None, "on cuda, replay training steps as CUDA graphs, true or false (default: true)", free=True
    )

    def __post_init__(self) -> None:
        check_types(self)
        self._check_model()
        self._fill_in_images()
        self._fill_in()
        self._check_bounds()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_model(self) -> None:
        given = [flag(name) for name in ("run", "cell", "model") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UserError(f"expected one of --run, --cell, --model, got {' and '.join(given) or 'none'}")
        if self.model is not None:
            if self.model not in CLASSIC_NAMES:
                raise unknown("model", self.model, CLASSIC_NAMES)
            for name in _CELL_OPTIONS:
                if getattr(self, name):
                    raise UserError(f"{flag(name)} has no use with --model {self.model}, which is no network of cells")

    def _fill_in_images(self) -> None:
        """Without ``dataset``, use the data set of the search in ``run``, or ``digits`` if there is no run."""
        if self.dataset is not None:
            return
        searched = {"dataset": "digits"}
        if self.run is not None:
            from nas.runs.directory import read_manifest

            searched |= read_manifest(as_path("run", self.run))["configuration"]
            if self.image_size is None:
                self._set("image_size", searched.get("image_size"))
            if self.data_dir == "data":
                self._set("data_dir", searched.get("data_dir", "data"))
        self._set("dataset", str(searched["dataset"]))

    def _fill_in(self) -> None:
        """Fill in what is not given: first the attack, which depends on several options, then the preset's values."""
        preset = preset_values(self.preset, self.dataset)
        if self.model is not None:
            preset.update(channels=None, auxiliary=0.0, drop_path=0.0)
        if self.cell is not None:
            from nas.runs.cells import read_cell

            genotype, space = read_cell(self.cell, self.space)
            self._set("cell", genotype)
            self._set("space", space or "darts")
        for name in ("epsilon", "step_size", "validation"):
            if getattr(self, name) is not None:
                self._set(name, fraction(name, getattr(self, name)))
        own = self.method in (None, preset["method"]) and self.norm == "Linf" and self.epsilon in (None, EPSILON)
        own &= self.attack_steps in (None, preset["attack_steps"])
        if self.epsilon is None:
            self._set("epsilon", EPSILON_L2 if self.norm == "L2" else EPSILON)
        self._set("method", self.method or preset["method"])
        self._fill_in_attack(preset["step_size"] if own else None, preset["attack_steps"] if own else None)
        if self.schedule not in (None, preset["schedule"]) or self.epochs not in (None, preset["epochs"]):
            preset.pop("milestones", None)  # they are meant for the preset's own schedule and number of epochs
        self._set("cuda_graphs", self.cuda_graphs is not False)
        for name in ("crop", "flip"):
            default = name == "crop" or self.dataset.startswith(MIRRORED)
            self._set(name, default if getattr(self, name) is None else getattr(self, name))
        for name, value in preset.items():
            if getattr(self, name) is None and name not in ("attack_steps", "step_size", "channels", "layers"):
                self._set(name, value)
        self._fill_in_milestones()

    def _fill_in_attack(self, step_size: float | None, steps: int | None) -> None:
        betas = {"trades_beta": ("trades", 6.0), "mart_beta": ("mart", 5.0), "gradient_alignment": ("fast", 0.0)}
        for name, (method, default) in betas.items():
            if self.method == method:
                self._set(name, default if getattr(self, name) is None else getattr(self, name))
        unused = {name: method for name, (method, _) in betas.items() if method != self.method}
        if self.method == "none":
            unused |= {"attack_steps": "pgd", "step_size": "pgd"}
        elif self.method in STEPS:
            self._set(
                "attack_steps", self.attack_steps if self.attack_steps is not None else steps or STEPS[self.method]
            )
            whole("attack_steps", self.attack_steps)
            if self.method == "fast" and self.attack_steps != 1:
                raise UserError(f"--attack-steps must be 1 with --method fast, got {self.attack_steps}")
            assert self.attack_steps is not None
            if self.step_size is None:
                default = default_step_size(self.method, self.norm, self.epsilon, self.attack_steps)
                self._set("step_size", step_size or default)
        for name, method in unused.items():
            if getattr(self, name) is not None:
                raise UserError(f"{flag(name)} has no use with --method {self.method}, it belongs to {method}")

    def _fill_in_milestones(self) -> None:
        given = self.milestones
        if self.schedule == "multistep" and given is None:  # half and three quarters of the epochs, as is usual
            given = tuple(sorted({max(1, self.epochs // 2), max(1, 3 * self.epochs // 4)}))
        elif self.schedule != "multistep" and given:
            raise UserError(f"--milestones has no use with --schedule {self.schedule}, it belongs to multistep")
        self._set("milestones", epoch_numbers(given))

    def _check_bounds(self) -> None:
        for name in ("epochs", "batch_size", "validation_steps"):
            whole(name, getattr(self, name))
        whole("batch_size", self.batch_size, 2)
        for name in ("channels", "layers", "image_size", "images", "threads"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name))
        bounds.seed(self.seed)
        norms.radius(self.epsilon, self.norm)
        if self.step_size is not None and (self.step_size or self.epsilon):  # a radius of 0 has steps of 0
            norms.step_length(self.step_size, self.norm)
        for name in ("learning_rate", "trades_beta", "mart_beta", "gradient_alignment"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 0)
        bounds.positive("learning_rate", self.learning_rate)
        for name in ("weight_decay", "gradient_clip", "auxiliary"):
            number(name, getattr(self, name), 0)
        for name in ("momentum", "label_smoothing", "ema", "drop_path"):
            number(name, getattr(self, name), 0)
            if getattr(self, name) >= 1:
                raise UserError(f"{flag(name)} must be below 1, got {getattr(self, name)}")
        if self.method == "mart" and self.label_smoothing:
            raise UserError("--label-smoothing has no use with --method mart, whose loss has a margin instead")
        if self.validation is not None:
            number("validation", self.validation, 0)
            if self.validation >= 1 and self.validation != int(self.validation):
                raise UserError(f"--validation must be a whole number or a share below 1, got {self.validation}")
        for milestone in self.milestones:
            if not 1 <= milestone <= self.epochs:
                raise UserError(f"--milestones must be from 1 to --epochs ({self.epochs}), got {milestone}")

    def to_json(self) -> dict[str, Any]:
        """JSON values by field name, in the form that the manifest stores and ``--config`` reads."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }


def epoch_numbers(given: Any) -> tuple[int, ...]:
    """One epoch, several, or a string such as ``100,150``, as sorted integers; None gives an empty tuple.

    :raises UserError: a value is not a whole number.
    """
    parts = given.split(",") if isinstance(given, str) else [given] if type(given) is int else given or ()
    for part in parts if isinstance(parts, (list, tuple)) else [parts]:
        if type(part) is not int and not re.fullmatch(r"\s*[0-9]{1,9}\s*", str(part)):
            raise UserError(f"--milestones must be epochs, such as 100,150, got {part!r:.60}")
    return tuple(sorted(int(part) for part in parts))
