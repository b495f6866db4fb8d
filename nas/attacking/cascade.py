"""Several attacks as one: each is run on the images that the ones before left classified correctly."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.attacking.base import Attack
from nas.attacking.crafting import adversarial


@dataclass(kw_only=True, eq=False)
class Cascade(Attack):
    """A subclass names its ``members``. An evaluation runs, counts and stores them one by one."""

    @property
    @abstractmethod
    def members(self) -> tuple[Attack, ...]: ...

    def settings(self) -> dict[str, Any]:
        return {"members": [member.settings() for member in self.members]}

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        changed = images.clone()
        for member in self.members:
            with torch.no_grad():
                correct = model(changed).argmax(1) == labels
            changed[correct] = adversarial(model, images[correct], labels[correct], member, seed)
        return changed


@dataclass(kw_only=True, eq=False)
class Renamed(Cascade):
    """``attack``, shown under ``text``."""

    text: str
    attack: Attack

    @property
    def name(self) -> str:
        return self.text

    @property
    def note(self) -> str:
        return self.attack.note

    @property
    def members(self) -> tuple[Attack, ...]:
        return self.attack.members
