"""Seconds that AutoAttack takes for 1,000 images, from a few of its iterations.

A batch is attacked by each of AutoAttack's members with few iterations and with more; what an iteration adds, times
the number that the member has, gives its time. Start-up cancels out. The network is untrained and, by its last bias,
certain of one class: no attack changes that, so each member attacks every image to the end. AutoAttack cannot take
longer; with a network of which it breaks half, it takes less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.attacking.evaluation import evaluate
from nas.attacking.registry import REFERENCE_STEPS
from nas.images.data import load_data, probe_batch
from nas.models.architecture import Architecture
from search_spaces import get_space

IMAGES = 1000
CERTAIN = 100.0  # logit of the class that the network always names, beyond what an attack can change
#: the members, how many iterations (of Square: queries) AutoAttack gives each, and how many are one unit here
MEMBERS = {
    "apgd-ce(steps={})": (REFERENCE_STEPS, 1),
    "apgd-t(steps={})": (REFERENCE_STEPS, 1),
    "fab-t(steps={})": (REFERENCE_STEPS, 1),
    "square(queries={})": (5000, 10),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """The network attacked, ``batch`` images at a time, and the numbers of units of iterations that are timed.

    :param size: channels and layers.
    """

    cell: str
    size: tuple[int, int]
    batch: int
    few: int = 2
    more: int = 6

    @property
    def name(self) -> str:
        return f"AutoAttack, {self.size[0]} x {self.size[1]}, batch {self.batch}"

    def model(self, device: torch.device) -> nn.Module:
        space = get_space("darts")
        architecture = Architecture(
            family="darts", genotype=space.format(space.parse(self.cell)), channels=self.size[0], layers=self.size[1],
            classes=tuple("0123456789"),
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = architecture.build().eval()
        *_, last = (each for each in model.modules() if isinstance(each, nn.Linear))
        with torch.no_grad():
            last.bias[0] += CERTAIN
        return model.to(device)

    def seconds(self, model: nn.Module, images: Tensor, units: int) -> list[float]:
        """Of each member with so many units of iterations. Options of ``nas.attack`` belong here."""
        attacks = [text.format(units * size) for text, (_, size) in MEMBERS.items()]
        labels = torch.zeros(len(images), dtype=torch.int64)
        found = evaluate(model, images, labels, attacks, batch=self.batch, checks=False).results
        if any(result.accuracy < 1 for result in found):
            raise RuntimeError("an attack broke a network that is certain of one class")
        return [result.seconds for result in found]


def attacking(case: Case, device: torch.device) -> dict[str, Any]:
    """The estimate, and what it was made from."""
    model = case.model(device)
    images, _ = probe_batch(load_data("digits").test, case.batch, 0)
    first = case.seconds(model, images, case.few)  # plans for the shapes
    few, more = (case.seconds(model, images, units) for units in (case.few, case.more))
    members = {}
    for text, a, b in zip(MEMBERS, few, more, strict=True):
        total, size = MEMBERS[text]
        each = max(0.0, b - a) / (case.more - case.few)
        name = text.partition("(")[0].replace("-", "_")
        members[f"{name}_seconds_of_1000"] = (a + each * (total / size - case.few)) * IMAGES / case.batch
    return {
        "channels": case.size[0], "layers": case.size[1], "batch": case.batch, "images_timed": case.batch,
        "share_of_iterations_timed": case.more / REFERENCE_STEPS, "first_seconds": sum(first),
        "seconds_of_1000": sum(members.values()), **members,
    }  # fmt: skip
