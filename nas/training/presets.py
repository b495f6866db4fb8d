"""Named protocols of adversarial training: what they fill in where nothing is given.

Each says where its figures come from; docs/training.md has what they reach.
"""

from __future__ import annotations

from typing import Any

#: 0.031372549..., the radius that the field reports Linf robustness for
EPSILON = 8 / 255
#: the radius that RobustBench reports L2 robustness for
EPSILON_L2 = 128 / 255

#: Tiny-RobustBench (Feng et al., ICLR 2025): the records' figures. They do not state a batch size: 128 is assumed. Nor
#: are images held out there, the best epoch being told by the test images; here 1,000 training images tell it.
TINY_ROBUSTBENCH: dict[str, Any] = {
    "method": "pgd", "attack_steps": 7, "step_size": 0.01,
    "epochs": 105, "schedule": "multistep", "milestones": (99,),
    "batch_size": 128, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4,
    "auxiliary": 0.0, "drop_path": 0.0, "gradient_clip": 0.0,
    "channels": 16, "layers": 8, "validation": 1000,
}  # fmt: skip

#: The size of the search table's networks. How they were trained the table does not say; all of this is assumed: PGD-7
#: with steps of 0.01, 200 epochs, a tenth of the rate at epochs 100 and 150, a batch of 128, as public programs of PGD
#: training on CIFAR-10 have it; DARTS' auxiliary head of weight 0.4, its drop path of 0.2, its gradient clipping at 5.
TABLE: dict[str, Any] = {
    **TINY_ROBUSTBENCH,
    "epochs": 200, "milestones": (100, 150),
    "auxiliary": 0.4, "drop_path": 0.2, "gradient_clip": 5.0,
    "channels": 36, "layers": 20,
}  # fmt: skip

#: Minutes on a CPU: one FGSM step from a random point and one cycle of the rate (Wong et al., ICLR 2020), a small
#: network. Measured, not published.
QUICK: dict[str, Any] = {
    "method": "fast", "attack_steps": 1, "step_size": 1.25 * EPSILON,
    "epochs": 2, "schedule": "one_cycle",
    "batch_size": 128, "learning_rate": 0.2, "momentum": 0.9, "weight_decay": 5e-4,
    "auxiliary": 0.0, "drop_path": 0.0, "gradient_clip": 0.0,
    "channels": 12, "layers": 4, "validation": 1000,
}  # fmt: skip

PRESETS = {"quick": QUICK, "tiny_robustbench": TINY_ROBUSTBENCH, "table": TABLE}

#: what the presets do otherwise with the 1,442 training images of digits
DIGITS: dict[str, Any] = {"validation": 0.1}
QUICK_DIGITS: dict[str, Any] = {"epochs": 10, "batch_size": 64}

#: by method, where the preset has another one: steps of the adversary (Wong et al.; TRADES' and MART's programs)
STEPS = {"pgd": 7, "trades": 10, "mart": 10, "fast": 1}

#: data sets whose mirror images are of the same class; those of digits are no digits
MIRRORED = ("cifar10", "cifar100", "folder:")


def preset_values(name: str, dataset: str) -> dict[str, Any]:
    """What the preset says for a data set."""
    values = dict(PRESETS[name])
    if dataset == "digits":
        values |= DIGITS | (QUICK_DIGITS if name == "quick" else {})
    return values


def default_step_size(method: str, epsilon: float, steps: int) -> float:
    """1.25 epsilon for the one step of ``fast`` (Wong et al.), else 2.5 epsilon / steps (Madry et al.)."""
    return 1.25 * epsilon if method == "fast" else 2.5 * epsilon / steps
