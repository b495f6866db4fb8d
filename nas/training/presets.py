"""Presets: named protocols of adversarial training that give the default values of options.

The comment above each preset says where its values come from; docs/training.md lists the accuracies they reach.
"""

from __future__ import annotations

from typing import Any

#: 0.031372549..., the radius for which Linf robustness on CIFAR-10 is usually reported
EPSILON = 8 / 255
#: the radius for which RobustBench reports L2 robustness
EPSILON_L2 = 128 / 255

#: Tiny-RobustBench (Feng et al., ICLR 2025): the values in its records. The records do not state a batch size: 128 is
#: assumed. The authors hold out no images and select the best epoch on the test images; here it is selected on held-out
#: training images (1,000 of CIFAR-10).
TINY_ROBUSTBENCH: dict[str, Any] = {
    "method": "pgd", "attack_steps": 7, "step_size": 0.01,
    "epochs": 105, "schedule": "multistep", "milestones": (99,),
    "batch_size": 128, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4,
    "auxiliary": 0.0, "drop_path": 0.0, "gradient_clip": 0.0,
    "channels": 16, "layers": 8,
}  # fmt: skip

#: Networks of the size in the published table that compares searched cells with hand-crafted networks. The table does
#: not say how they were trained, so the protocol is assumed: PGD-7 with steps of 0.01, 200 epochs, the learning rate
#: divided by 10 at epochs 100 and 150, and batch size 128, as in public code for PGD training on CIFAR-10; from DARTS
#: an auxiliary head of weight 0.4, drop path of 0.2, and gradient clipping at 5.
TABLE: dict[str, Any] = {
    **TINY_ROBUSTBENCH,
    "epochs": 200, "milestones": (100, 150),
    "auxiliary": 0.4, "drop_path": 0.2, "gradient_clip": 5.0,
    "channels": 36, "layers": 20,
}  # fmt: skip

#: Takes minutes on a CPU: one FGSM step from a random point and one learning-rate cycle (Wong et al., ICLR 2020), on a
#: small network. The values were chosen by our own measurements; they are not from a publication.
QUICK: dict[str, Any] = {
    "method": "fast", "attack_steps": 1, "step_size": 1.25 * EPSILON,
    "epochs": 2, "schedule": "one_cycle",
    "batch_size": 128, "learning_rate": 0.2, "momentum": 0.9, "weight_decay": 5e-4,
    "auxiliary": 0.0, "drop_path": 0.0, "gradient_clip": 0.0,
    "channels": 12, "layers": 4,
}  # fmt: skip

PRESETS = {"quick": QUICK, "tiny_robustbench": TINY_ROBUSTBENCH, "table": TABLE}

#: values that replace those of ``quick`` on ``digits``, which has only 1,442 training images
QUICK_DIGITS: dict[str, Any] = {"epochs": 10, "batch_size": 64}

#: default number of attack steps by method, where it is not the preset's (Wong et al.; the code of TRADES and MART)
STEPS = {"pgd": 7, "trades": 10, "mart": 10, "fast": 1}

#: data sets (name prefixes) in which a mirrored image keeps its class; a mirrored digit is not a digit
MIRRORED = ("cifar10", "cifar100", "folder:")


def preset_values(name: str, dataset: str) -> dict[str, Any]:
    """The values of the preset ``name`` for a data set."""
    values = dict(PRESETS[name])
    if dataset == "digits" and name == "quick":
        values |= QUICK_DIGITS
    return values


def default_step_size(method: str, norm: str, epsilon: float, steps: int) -> float:
    """1.25 epsilon for the single step of ``fast`` (Wong et al.), else 2.5 epsilon / steps (Madry et al.).

    In Linf at most 1, which takes every pixel to the end of its range.
    """
    step = 1.25 * epsilon if method == "fast" else 2.5 * epsilon / steps
    return min(step, 1.0) if norm == "Linf" else step
