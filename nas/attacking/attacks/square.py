"""``square``: a random search that needs no gradients.

Andriushchenko et al., ECCV 2020 (https://arxiv.org/abs/1912.00049).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nas.attacking.attacks.library import shell, torchattacks
from nas.attacking.base import Attack, check_counts
from nas.errors import UserError

LEAST_SIZE_L2 = 5  # torchattacks' first squares have a fifth of the height, and its later ones must fit in both


@dataclass(kw_only=True, eq=False)
class Square(Attack):
    """Up to ``queries`` forward passes an image in each of ``restarts`` runs.

    :param rescale_schedule: shrink the squares as fast as ``queries`` end; otherwise as if there were 10,000.
    """

    method = "square"
    only_calls = True
    name = "Square"

    queries: int = 5000
    restarts: int = 1
    rescale_schedule: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "queries", "restarts")

    def check_size(self, height: int, width: int) -> None:
        if self.norm == "L2" and not height == width >= LEAST_SIZE_L2:
            least = f"{LEAST_SIZE_L2}x{LEAST_SIZE_L2}"
            raise UserError(f"{self.name} in L2 needs square images of at least {least} pixels, got {height}x{width}")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        options = {"n_queries": self.queries, "n_restarts": self.restarts, "resc_schedule": self.rescale_schedule}
        with shell(model, images) as shown:
            made = torchattacks().Square(shown, norm=self.norm, eps=self.epsilon, seed=seed, **options)
            changed: Tensor = made(images, labels)
        return changed
