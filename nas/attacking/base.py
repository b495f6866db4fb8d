"""The contract of an attack. Importing this imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from nas import norms
from nas.errors import UserError
from nas.norms import DEFAULT_EPSILON, Norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

PGD_STEPS_PER_RADIUS = 4  # a step of 2/255 at epsilon 8/255 (Madry et al., ICLR 2018)


@dataclass(kw_only=True, eq=False)
class Attack(ABC):
    """A way to change images so that a model misclassifies them.

    A subclass defines :meth:`run`. It may be a dataclass, whose fields are then its options, or an ordinary class.
    :func:`~nas.attacking.evaluation.evaluate` takes an object of it; in ``nas.attacking.registry.ATTACKS`` it has a
    name. :func:`nas.testing.attacks.check_attack` tests what is promised here.

    :param norm: in which the distance of a changed image is measured: ``Linf`` (the largest change of a pixel) or
        ``L2``. :param epsilon: the largest distance allowed, in pixel units of [0, 1].
    :raises UserError: there is no such norm or epsilon.
    """

    #: names the attack in stored results; empty: the class's module and name
    method: ClassVar[str] = ""

    #: whether :meth:`run` does nothing with the model but to call it and to differentiate with respect to the images
    #: once; on a GPU it is then given one whose passes are replayed (:mod:`nas.attacking.replay`)
    only_calls: ClassVar[bool] = False

    norm: Norm = "Linf"
    epsilon: float = DEFAULT_EPSILON

    def __post_init__(self) -> None:
        norms.check_norm(self.norm)
        self.epsilon = norms.radius(self.epsilon, self.norm)

    @property
    def name(self) -> str:
        """Under which results are shown. By default the name of the class."""
        return type(self).__name__

    @property
    def note(self) -> str:
        """What a reader of the result must know about this attack; empty if nothing."""
        return ""

    @property
    def members(self) -> tuple[Attack, ...]:
        """The attacks that are run one after the other, each on the images still classified correctly.

        One attack is its own only member; natural accuracy has none.
        """
        return (self,)

    def settings(self) -> dict[str, Any]:
        """All that the result depends on besides model, images and seed, as plain values for JSON.

        Results are stored under these settings. By default they are the object's attributes.
        """
        method = self.method or f"{type(self).__module__}.{type(self).__qualname__}"
        return {"method": method, "norm": self.norm, "epsilon": self.epsilon, **vars(self)}

    def check_size(self, height: int, width: int) -> None:  # noqa: B027  # empty: most attacks take every size
        """Called before an evaluation begins. By default images of every size can be attacked.

        :raises UserError: images of this size, in pixels, cannot.
        """

    @abstractmethod
    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """The changed images, ``(N, C, H, W)``; where the attack finds nothing, any image of the ball will do.

        Meanwhile the model is in eval mode, its parameters are frozen, gradients are enabled, and the global generators
        of torch, numpy and Python are seeded. The caller (:func:`nas.attacking.crafting.adversarial`) sees to that,
        restores it afterwards, and checks distances and pixels. It does not call an attack of epsilon 0.

        :param model: images -> logits ``(N, classes)``. :param images: ``(N, C, H, W)`` in [0, 1], a copy, all of them
            classified correctly. :param labels: ``(N,)``, int64. :param seed: the result must depend on nothing else.
        """


def check_counts(attack: Attack, *names: str) -> None:
    """:raises UserError: one of these attributes is no whole number from 1."""
    for name in names:
        value = getattr(attack, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
            raise UserError(f"{name} of {attack.name} must be a whole number from 1, got {value!r:.60}")
        setattr(attack, name, int(value))


def step_length(attack: Attack, step_size: float | None) -> float:
    """``step_size``; a quarter of the attack's epsilon where none is given.

    :raises UserError: it is no number above 0, or is above 1 in Linf.
    """
    if step_size is None:
        return attack.epsilon / PGD_STEPS_PER_RADIUS
    return norms.step_length(step_size, attack.norm)


def check_attacks(attacks: Sequence[Attack], height: int, width: int) -> None:
    """Check attacks, a user's own among them, before the first one is run.

    :raises UserError: one is no attack, has no norm or epsilon that can be, or cannot attack images of this size.
    """
    for attack in attacks:
        if not isinstance(attack, Attack):
            raise UserError(f"an attack must be a name or an Attack object, got {attack!r:.60}")
        norms.check_norm(attack.norm)
        if norms.radius(attack.epsilon, attack.norm) != attack.epsilon:
            raise UserError(f"epsilon of {attack.name} must be a number, got {attack.epsilon!r:.60}")
        for member in attack.members:
            member.check_size(height, width)
