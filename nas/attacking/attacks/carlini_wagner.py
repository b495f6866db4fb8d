"""``cw``: an attack on the margin between logits.

Carlini and Wagner, S&P 2017 (https://arxiv.org/abs/1608.04644). In Linf it is PGD on their margin loss, as Madry et al.
(ICLR 2018) attack with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.attacking.attacks.library import Shell, shell, torchattacks
from nas.attacking.base import Attack, check_counts, step_length
from nas.training import adversary


@dataclass(kw_only=True, eq=False)
class CarliniWagner(Attack):
    """``steps`` steps.

    :param c, kappa, learning_rate: of the attack in L2: weight of the margin, margin aimed at, Adam's step size.
    :param step_size: of PGD in Linf, in pixel units, by default a quarter of epsilon.
    """

    method = "cw"
    only_calls = True

    steps: int = 100
    c: float = 10.0
    kappa: float = 0.0
    learning_rate: float = 0.01
    step_size: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "steps")
        self.step_size = step_length(self, self.step_size)

    @property
    def name(self) -> str:
        return "CW" if self.norm == "L2" else "CW-PGD"

    def settings(self) -> dict[str, Any]:
        used = ("c", "kappa", "steps", "learning_rate") if self.norm == "L2" else ("steps", "step_size")
        own = {name: getattr(self, name) for name in used} | ({} if self.norm == "L2" else {"random_start": True})
        return {"method": self.method, "norm": self.norm, "epsilon": self.epsilon, **own}

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        if self.norm == "Linf":
            return self._margin_pgd(model, images, labels)
        options = {"c": self.c, "kappa": self.kappa, "steps": self.steps, "lr": self.learning_rate}
        with shell(model, images, _Shifted) as shown:
            found: Tensor = torchattacks().CW(shown, **options)(images, labels)
        near = (found - images).flatten(1).norm(dim=1) <= self.epsilon  # it looks for the nearest one, however far
        return torch.where(near.view(-1, 1, 1, 1), found, images)

    def _margin_pgd(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        pgd = adversary.PGD(epsilon=self.epsilon, step_size=step_length(self, self.step_size), steps=self.steps)

        def margin(logits: Tensor) -> Tensor:
            own = F.one_hot(labels, logits.shape[1]).bool()
            return (logits.masked_fill(own, -torch.inf).amax(1) - logits[own]).sum()

        return pgd(model, images, margin)


class _Shifted(Shell):
    """Logits moved so that the least is 0: torchattacks' CW takes the largest other logit for at least 0."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits - logits.detach().amin(dim=1, keepdim=True)
