"""Seconds that AutoAttack takes for 1,000 images, from a few of its iterations.

A batch is attacked by each of AutoAttack's members, after a warm-up, with few iterations and with more; what an
iteration adds, times the number that the member has, gives its time. The network is untrained and, by its last bias,
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
    "square(queries={})": (5000, 25),
}


#: further arguments of ``evaluate``: whatever changes how a model runs on a GPU belongs here
OPTIONS: dict[str, Any] = {"cuda_graphs": True}


@dataclass(frozen=True, kw_only=True)
class Case:
    """The network attacked, ``batch`` images at a time.

    :param size: channels and layers. :param units: of iterations: to warm up, few, and more.
    """

    cell: str
    size: tuple[int, int]
    batch: int
    units: tuple[int, int, int] = (5, 2, 8)

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

    def seconds(self, model: nn.Module, images: Tensor) -> list[list[float]]:
        """Of each member, for each of ``units``."""
        attacks = [text.format(units * size) for units in self.units for text, (_, size) in MEMBERS.items()]
        labels = torch.zeros(len(images), dtype=torch.int64)
        found = evaluate(model, images, labels, attacks, batch=self.batch, checks=False, **OPTIONS).results
        if any(result.accuracy < 1 for result in found):
            raise RuntimeError("an attack broke a network that is certain of one class")
        seconds = [result.seconds for result in found]
        return [seconds[start : start + len(MEMBERS)] for start in range(0, len(seconds), len(MEMBERS))]


def attacking(case: Case, device: torch.device) -> dict[str, Any]:
    """The estimate, and what it was made from."""
    images, _ = probe_batch(load_data("digits").test, case.batch, 0)
    warm_up, few, more = case.seconds(case.model(device), images)
    members = {}
    for (text, (total, size)), a, b in zip(MEMBERS.items(), few, more, strict=True):
        each = max(0.0, b - a) / (case.units[2] - case.units[1])
        name = text.partition("(")[0].replace("-", "_")
        members[f"{name}_seconds_of_1000"] = (a + each * (total / size - case.units[1])) * IMAGES / case.batch
    return {
        "channels": case.size[0], "layers": case.size[1], "batch": case.batch, "images_timed": case.batch,
        "units_timed": list(case.units), "warm_up_seconds": sum(warm_up), "seconds_of_1000": sum(members.values()),
        **members,
    }  # fmt: skip
