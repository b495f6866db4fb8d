"""``fgsm`` and ``pgd``: steps along the gradient of the cross-entropy.

FGSM: Goodfellow et al., ICLR 2015 (https://arxiv.org/abs/1412.6572). PGD: Madry et al., ICLR 2018
(https://arxiv.org/abs/1706.06083).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nas.attacking.attacks.library import shell, torchattacks
from nas.attacking.base import Attack, check_counts, step_length


@dataclass(kw_only=True, eq=False)
class FGSM(Attack):
    """One step of length epsilon, from the image itself; in L2 along the gradient, and called FGM."""

    method = "fgsm"
    only_calls = True

    @property
    def name(self) -> str:
        return "FGSM" if self.norm == "Linf" else "FGM"

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        with shell(model, images) as shown:
            if self.norm == "Linf":
                attack = torchattacks().FGSM(shown, eps=self.epsilon)
            else:
                one_step = {"alpha": self.epsilon, "steps": 1, "random_start": False}
                attack = torchattacks().PGDL2(shown, eps=self.epsilon, **one_step)
            changed: Tensor = attack(images, labels)
        return changed


@dataclass(kw_only=True, eq=False)
class PGD(Attack):
    """``steps`` steps of ``step_size``, each projected back into the ball.

    :param step_size: in pixel units, by default a quarter of epsilon. :param random_start: begin at a random point of
        the ball, not at the image.
    """

    method = "pgd"
    only_calls = True

    steps: int = 20
    step_size: float | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "steps")
        self.step_size = step_length(self, self.step_size)

    @property
    def name(self) -> str:
        return f"PGD-{self.steps}"

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        kind = torchattacks().PGD if self.norm == "Linf" else torchattacks().PGDL2
        options = {"alpha": self.step_size, "steps": self.steps, "random_start": self.random_start}
        with shell(model, images) as shown:
            changed: Tensor = kind(shown, eps=self.epsilon, **options)(images, labels)
        return changed
