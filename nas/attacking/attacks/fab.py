"""``fab`` and ``fab-t``: the nearest point of the decision boundary.

Croce and Hein, ICML 2020 (https://arxiv.org/abs/1907.02044).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nas.attacking.attacks.library import shell, torchattacks
from nas.attacking.base import Attack, check_counts


@dataclass(kw_only=True, eq=False)
class FAB(Attack):
    """Towards the boundary with any other class, ``steps`` iterations in each of ``restarts`` runs."""

    method = "fab"
    only_calls = True
    name = "FAB"

    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "steps", "restarts")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        return _fab(self, model, images, labels, seed)


@dataclass(kw_only=True, eq=False)
class FABT(Attack):
    """Towards each of the ``targets`` likeliest wrong classes in turn.

    :param classes: of the model; there are at most as many targets as wrong classes.
    """

    method = "fab-t"
    only_calls = True
    name = "FAB-T"

    steps: int = 100
    restarts: int = 1
    targets: int = 9
    classes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.targets = min(self.targets, self.classes - 1)
        check_counts(self, "steps", "restarts", "targets")

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "classes"}

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        return _fab(self, model, images, labels, seed, multi_targeted=True, n_classes=self.targets + 1)


def _fab(attack: FAB | FABT, model: nn.Module, images: Tensor, labels: Tensor, seed: int, **options: Any) -> Tensor:
    options |= {"steps": attack.steps, "n_restarts": attack.restarts, "seed": seed}
    with shell(model, images) as shown:
        made = torchattacks().FAB(shown, norm=attack.norm, eps=attack.epsilon, **options)
        changed: Tensor = made(images, labels)
    return changed
