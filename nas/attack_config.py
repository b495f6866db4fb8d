"""The options of ``python -m nas.attack`` and what they may be."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nas.attack_settings import DEFAULT_ATTACKS, REFERENCE_STEPS
from nas.config import flag, option
from nas.errors import UserError


def parse_epsilon(text: str | float, name: str = "--epsilon") -> float:
    """A number from 0 on in pixel units of [0, 1], also as a fraction: ``8/255``.

    :raises UserError: it is no such number.
    """
    number, _, divisor = str(text).partition("/")
    try:
        value = float(number) / float(divisor or 1)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{name} must be a number such as 8/255 or 0.03, got {text!r:.40}") from None
    if not math.isfinite(value) or value < 0:
        raise UserError(f"{name} must be a finite number from 0, got {text}")
    return value


def check_whole_numbers(config: Any, *names: str) -> None:
    """:raises UserError: one of these fields is neither a whole number from 1 nor not given."""
    for name in names:
        value = getattr(config, name)
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"{flag(name)} must be a whole number from 1, got {value!r:.40}")


def check_seed(seed: Any) -> None:
    """:raises UserError: no seed."""
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise UserError(f"--seed must be a whole number from 0 to 2^63 - 1, got {seed!r:.60}")


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """What is attacked, and how."""

    run: str | None = option(None, "run directory whose train/best.pt is attacked")
    checkpoint: str | None = option(None, "checkpoint file to attack instead")
    attack: tuple[str, ...] = option(
        DEFAULT_ATTACKS,
        "natural, fgsm, pgd-K, apgd-ce, apgd-t, fab, fab-t, square, cw or autoattack; repeatable"
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
    data_dir: str = option("data", "where cifar10, cifar100 and svhn are kept")
    download: bool = option(False, "fetch the data set if it is not in --data-dir")
    image_size: int | None = option(None, "resize the images to this many pixels square")
    seed: int = option(0, "seed of the choice of images and of the attacks")
    device: str = option("auto", "cpu, cuda, cuda:N, or auto: cuda where there is one")
    threads: int | None = option(None, "threads of an operation on the CPU (default: torch's choice)")

    def __post_init__(self) -> None:
        attack = (self.attack,) if isinstance(self.attack, str) else tuple(self.attack or ())
        object.__setattr__(self, "attack", attack)
        if (self.run is None) == (self.checkpoint is None):
            got = "neither" if self.run is None else "both"
            raise UserError(f"expected --run RUN or --checkpoint FILE, got {got}")
        if not attack or len(set(attack)) < len(attack):
            raise UserError(f"--attack must name at least one attack, each once, got {', '.join(attack) or 'none'}")
        if self.norm == "Linf" and self.radius > 1:
            raise UserError(f"--epsilon must be from 0 to 1 (pixels are in [0, 1]), got {self.epsilon}")
        if self.step is not None and self.step == 0:
            raise UserError(f"--step-size must be above 0, got {self.step_size}")
        check_whole_numbers(self, "autoattack_steps", "samples", "batch", "image_size", "threads")
        check_seed(self.seed)

    @property
    def radius(self) -> float:
        """``--epsilon`` as a number."""
        return parse_epsilon(self.epsilon)

    @property
    def step(self) -> float | None:
        """``--step-size`` as a number."""
        return None if self.step_size is None else parse_epsilon(self.step_size, "--step-size")

    @property
    def model(self) -> Path:
        """The run directory or checkpoint."""
        return Path(self.run or self.checkpoint or "")

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name, as ``--config`` reads them."""
        return {**dataclasses.asdict(self), "attack": list(self.attack)}
