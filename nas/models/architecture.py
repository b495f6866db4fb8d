"""The description of a trained network in a few plain values, and the classifier built from it.

Images enter a classifier as they are, float in [0, 1]: normalisation is its first layer, so that an attack's epsilon
is in pixel units.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nas.errors import UserError, as_user_error
from nas.models.names import CLASSIC_NAMES as CLASSIC_NAMES  # re-exported
from nas.runs.schema import COUNT, FINITE, SWITCH, TEXT, each, fields, maybe, shown
from nas.spaces import FINGERPRINT, known_space, unknown_space
from search_spaces import SPACES
from search_spaces.base import NetworkSpec, SearchSpace

if TYPE_CHECKING:
    from search_spaces.base import Cost

#: mean and standard deviation of the training images' pixels, by data set
PIXEL_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}

_STORED = fields(
    {
        "family": TEXT, "genotype": TEXT, "channels": maybe(COUNT), "layers": maybe(COUNT), "auxiliary": SWITCH,
        "classes": each(TEXT), "image_size": each(COUNT), "mean": each(FINITE), "std": each(FINITE),
    },
    {FINGERPRINT: TEXT},
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network: a genotype of a search space at a size, or one of ``CLASSIC_NAMES``.

    :param family: name of a search space, or of a classic network.
    :param genotype: in the space's notation; empty for a classic network.
    :param channels, layers: None where networks of the space have no such number.
    :param space_fingerprint: of a user's space, as :func:`nas.spaces.own_fingerprint` gives it.
    :param space: the user's space itself, which is not stored.
    :param classes: names of the classes, in the order of the logits.
    :param image_size: height, width of the images. :param mean, std: per channel, of pixels in [0, 1].
    """

    family: str
    genotype: str = ""
    channels: int | None = 16
    layers: int | None = 8
    auxiliary: bool = False
    classes: tuple[str, ...]
    image_size: tuple[int, int] = (32, 32)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    space_fingerprint: str | None = None
    space: SearchSpace[Any] | None = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.family not in (*CLASSIC_NAMES, *SPACES) and self.space is None:
            raise unknown_space("model", self.family, (*CLASSIC_NAMES, *SPACES))
        if len(self.classes) < 2:
            raise UserError(f"a classifier needs at least 2 classes, got {len(self.classes)}")
        right = len(self.mean) == len(self.std) and all(0 < std < math.inf for std in self.std)
        if not right or not all(map(math.isfinite, self.mean)):
            raise UserError(f"expected a mean and a positive std for each channel, got {self.mean} and {self.std}")
        _ = self.spec  # raises if the size is out of bounds
        if self._space is not None:
            self._genotype(self._space)
            as_user_error(lambda: self.cost().check())

    @property
    def spec(self) -> NetworkSpec:
        """The size of the network; of a classic one only classes and image size count."""
        return as_user_error(
            lambda: NetworkSpec(
                channels=self.channels, layers=self.layers, classes=len(self.classes), image_size=self.image_size,
                image_channels=len(self.mean), auxiliary=self.auxiliary,
            )
        )  # fmt: skip

    @cached_property
    def _space(self) -> SearchSpace[Any] | None:
        """The search space; None of a classic network."""
        if self.family in CLASSIC_NAMES:
            return None
        return known_space(self.family, self.space, self.space_fingerprint)

    def _genotype(self, space: SearchSpace[Any]) -> Any:
        as_user_error(lambda: space.check_spec(self.spec))
        return as_user_error(lambda: space.parse(self.genotype))

    def network(self) -> nn.Module:
        """The network without normalisation, its weights drawn from torch's global generator."""
        if self._space is not None:
            return self._space.build(self._genotype(self._space), self.spec)
        from nas.models.classic import CLASSIC

        return CLASSIC[self.family](len(self.classes), len(self.mean))

    def build(self) -> Classifier:
        """The classifier, untrained, its weights drawn from torch's global generator."""
        return Classifier(self.network(), self.mean, self.std)

    def cost(self) -> Cost:
        """Parameters and MACs of the network without an auxiliary head."""
        if self._space is not None:
            return self._space.cost(self._genotype(self._space), self.spec)
        from torch.utils.flop_counter import FlopCounterMode  # slow to import

        from search_spaces.base import Cost

        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network = self.network().eval()
            network(torch.empty(1, len(self.mean), *self.image_size))
        return Cost(sum(each.numel() for each in network.parameters()), counter.get_total_flops() // 2)

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name; a fingerprint where there is one."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "space"]
        values = {name: getattr(self, name) for name in names if name != FINGERPRINT or self.space_fingerprint}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Any, space: SearchSpace[Any] | None = None) -> Architecture:
        """The inverse of :meth:`to_json`.

        :param space: the user's space of the network, where it is none of this program's.
        :raises UserError: ``values`` are not what :meth:`to_json` gives, or are of another space.
        """
        names = {field.name for field in dataclasses.fields(cls)} - {"space", FINGERPRINT}
        if not isinstance(values, dict) or set(values) - {FINGERPRINT} != names:
            got = shown(sorted(map(shown, values))) if isinstance(values, dict) else type(values).__name__
            raise UserError(f"not an architecture: got {got}, expected {sorted(names)}")
        try:
            _STORED(values, "")
        except ValueError as error:
            raise UserError(f"not an architecture: {error}") from None
        if len(values["image_size"]) != 2:
            raise UserError(f"not an architecture: image_size {shown(values['image_size'])}, expected height and width")
        own: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**own, space=space)


class Classifier(nn.Module):
    """Images ``(N, C, H, W)`` in [0, 1] -> logits ``(N, classes)``: normalisation, then ``network``.

    A network with an auxiliary head returns ``(logits, auxiliary logits)`` in training mode, and so does this.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Any:
        return self.network((images - self.mean) / self.std)
