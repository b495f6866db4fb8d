"""``apgd-ce`` and ``apgd-t``: PGD that chooses its own step sizes.

Croce and Hein, ICML 2020 (https://arxiv.org/abs/2003.01690), section 3 and equation 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.attacking.attacks.library import Shell, shell, torchattacks
from nas.attacking.base import Attack, check_counts
from nas.errors import UserError


@dataclass(kw_only=True, eq=False)
class APGD(Attack):
    """On the cross-entropy, ``steps`` iterations in each of ``restarts`` runs."""

    method = "apgd-ce"
    only_calls = True
    name = "APGD-CE"

    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "steps", "restarts")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        with shell(model, images) as shown:
            changed: Tensor = torchattacks().APGD(shown, **_options(self, seed), loss="ce")(images, labels)
        return changed


@dataclass(kw_only=True, eq=False)
class APGDT(Attack):
    """On the targeted DLR loss: ``steps`` iterations for each of the ``targets`` likeliest wrong classes.

    :param classes: of the model, at least 4; there are at most as many targets as wrong classes.
    """

    method = "apgd-t"
    only_calls = True
    name = "APGD-T"

    steps: int = 100
    restarts: int = 1
    targets: int = 9
    classes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 4:
            raise UserError(
                f"attack apgd-t needs at least 4 classes, the model has {self.classes}; fab-t takes any number"
            )
        self.targets = min(self.targets, self.classes - 1)
        check_counts(self, "steps", "restarts", "targets")

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "classes"}

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        options = _options(self, seed)
        with shell(model, images) as shown:
            if self.norm == "Linf":
                changed: Tensor = torchattacks().APGDT(shown, **options, n_classes=self.targets + 1)(images, labels)
                return changed
            apgd = torchattacks().APGD(shown, **options, loss="dlr")
            return _targeted_in_l2(apgd, shown, images, labels, self.targets)


def _options(attack: APGD | APGDT, seed: int) -> dict[str, Any]:
    return {
        "norm": attack.norm, "eps": attack.epsilon, "seed": seed, "n_restarts": attack.restarts, "steps": attack.steps,
    }  # fmt: skip


def _targeted_in_l2(apgd: Any, model: Shell, images: Tensor, labels: Tensor, targets: int) -> Tensor:
    """Targeted APGD by means of the untargeted one.

    torchattacks' targeted one takes the L2 steps of all images with the step size of the first.
    """
    changed, left = images.clone(), torch.arange(len(images), device=images.device)
    for rank in range(2, targets + 2):
        with torch.no_grad():
            logits = model(images[left])
        left, logits = (each[logits.argmax(1) == labels[left]] for each in (left, logits))
        if not len(left):
            break
        target = logits.sort(dim=1)[1][:, -rank]
        apgd.dlr_loss = lambda z, y, target=target: targeted_dlr_loss(z, y, target)
        _, correct, _, found = apgd.attack_single_run(images[left], labels[left])
        fooled = correct == 0
        changed[left[fooled]] = found[fooled].detach()
        left = left[~fooled]
    return changed


def targeted_dlr_loss(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """``(N, K)``, K at least 4 -> ``(N,)``: Croce and Hein, equation 7."""
    ordered = logits.sort(dim=1)[0]
    rows = torch.arange(len(logits), device=logits.device)
    spread = ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4]) + 1e-12
    return -(logits[rows, labels] - logits[rows, target]) / spread
