"""``natural``: the images as they are, for the accuracy without an attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nas.attacking.base import Attack


@dataclass(kw_only=True, eq=False)
class Natural(Attack):
    """Returns the images."""

    name = "natural"
    method = "natural"

    @property
    def members(self) -> tuple[Attack, ...]:
        return ()

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        return images
