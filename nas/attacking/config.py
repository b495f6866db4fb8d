"""The options of ``python -m nas.attack``, and which values they accept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nas import norms
from nas.attacking.registry import DEFAULT_ATTACKS, REFERENCE_STEPS
from nas.cli import bounds
from nas.cli.fields import check_types, option, path_option
from nas.errors import UserError
from nas.files import as_path

#: options of every command that attacks: None, or a whole number from 1
COUNTS = ("samples", "batch", "image_size", "threads")


def check_counts(config: Any, *names: str) -> None:
    """:raises UserError: one of these fields is given and no whole number from 1."""
    for name in names:
        if getattr(config, name) is not None:
            bounds.whole(name, getattr(config, name))


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """Which model is attacked, on which images, and how."""

    run: str | None = path_option(None, "run directory whose train/best.pt is attacked")
    checkpoint: str | None = path_option(None, "checkpoint file to attack instead")
    attack: tuple[str, ...] = option(
        DEFAULT_ATTACKS,
        "natural, fgsm, pgd-K, apgd-ce, apgd-t, fab, fab-t, square, cw or autoattack, or one with options, such as"
        " 'square(queries=1000)'; repeatable"
        " (default: natural, fgsm, pgd-7, pgd-20, pgd-100, apgd-ce, autoattack)",
    )
    norm: Literal["Linf", "L2"] = option("Linf", "how far an image may be changed is measured in Linf or L2")
    epsilon: str | float = option("8/255", "how far, in pixel units of [0, 1]: 8/255 or 0.03")
    step_size: str | float | None = option(None, "step of PGD and CW, likewise (default: a quarter of --epsilon)")
    autoattack_steps: int = option(
        REFERENCE_STEPS, "iterations of AutoAttack's APGD and FAB; with other than the standard 100 its name says so"
    )
    samples: int | None = option(
        None, "number of test images, drawn class-balanced; a larger number extends a smaller one (default: all)"
    )
    batch: int = option(64, "images attacked at a time")
    dataset: str | None = option(None, "test images, as for nas.search (default: what the checkpoint was trained on)")
    data_dir: str = path_option("data", "where cifar10, cifar100 and svhn are kept")
    download: bool = option(False, "fetch the data set if it is not in --data-dir")
    image_size: int | None = option(None, "resize the images to this many pixels square")
    seed: int = option(0, "seed of the choice of images and of the attacks")
    device: str = option("auto", "cpu, cuda, cuda:N, or auto: cuda where there is one")
    threads: int | None = option(None, "threads of an operation on the CPU (default: torch's choice)")
    tf32: bool | None = option(
        None, "on cuda, TF32 in float32 convolutions and matrix products, true or false (default: in convolutions only)"
    )
    cuda_graphs: bool = option(None, "on cuda, replay the model's passes as CUDA graphs, true or false (default: true)")

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "cuda_graphs", self.cuda_graphs is not False)
        attack = bounds.texts(self.attack)
        object.__setattr__(self, "attack", attack)
        if (self.run is None) == (self.checkpoint is None):
            got = "neither" if self.run is None else "both"
            raise UserError(f"expected --run RUN or --checkpoint FILE, got {got}")
        if not attack or len(set(attack)) < len(attack):
            raise UserError(f"--attack must name at least one attack, each once, got {', '.join(attack) or 'none'}")
        norms.check_norm(self.norm)
        norms.radius(self.epsilon, self.norm)
        if self.step_size is not None:
            norms.step_length(self.step_size, self.norm)
        check_counts(self, *COUNTS, "autoattack_steps")
        bounds.seed(self.seed)

    @property
    def radius(self) -> float:
        """``--epsilon`` as a number."""
        return norms.radius(self.epsilon, self.norm)

    @property
    def step(self) -> float | None:
        """``--step-size`` as a number."""
        return None if self.step_size is None else norms.step_length(self.step_size, self.norm)

    @property
    def model(self) -> Path:
        """The run directory or checkpoint."""
        return as_path("run", self.run) if self.checkpoint is None else as_path("checkpoint", self.checkpoint)

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name; ``--config`` accepts them."""
        return {**dataclasses.asdict(self), "attack": list(self.attack)}
