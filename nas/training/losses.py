"""The losses of adversarial training: one class per method.

A method is called with a model in train mode, images ``(N, C, H, W)`` in [0, 1], labels ``(N,)`` and a generator for
the adversary's noise, or the point that the adversary starts from, and returns the loss to differentiate. If the
network has an auxiliary head, its weighted cross-entropy is added, on the same images (clean or adversarial) as the
method's own cross-entropy term.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.training.adversary import PGD, buffers_kept, logits_of, undisturbed

_START_DEVIATION = 0.001  # standard deviation of the Gaussian start, from the code of TRADES and MART


@dataclass(frozen=True)
class Step:
    """``loss``: scalar with its autograd graph. ``logits``: of the images trained on, ``(N, classes)``, detached."""

    loss: Tensor
    logits: Tensor


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A training method.

    :param adversary: attack that crafts the adversarial images.
    :param label_smoothing: share of each label that is spread over all classes.
    :param auxiliary: weight of the auxiliary head's cross-entropy.
    """

    adversary: PGD
    label_smoothing: float = 0.0
    auxiliary: float = 0.0

    @abstractmethod
    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None,
        start: Tensor | None = None,
    ) -> Step:  # fmt: skip
        """The loss of one batch. ``start``: what :meth:`start` has drawn; None: it is drawn from ``generator``."""

    def start(self, images: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """The point that the adversary starts from, a random one in the ball; None: there is no adversary."""
        return self.adversary.random_start(images, generator)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy with smoothed labels: a share of ``label_smoothing`` is spread over all classes."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def on_auxiliary(self, outputs: Tensor | tuple[Tensor, Tensor], labels: Tensor) -> Tensor | float:
        """The weighted cross-entropy of the auxiliary head; 0 if the network has none."""
        if not isinstance(outputs, tuple):
            return 0.0
        return self.auxiliary * self.cross_entropy(logits_of(outputs[1]), labels)

    def crafted(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None, start: Tensor | None
    ) -> Tensor:
        """Adversarial images that maximise the cross-entropy without label smoothing.

        :param start: the point to start from; None: as :meth:`start` draws it.
        """
        start = self.start(images, generator) if start is None else start
        return self.adversary(model, images, partial(F.cross_entropy, target=labels), start=start)


@dataclass(frozen=True, kw_only=True)
class Standard(Method):
    """Standard training: the cross-entropy of the clean images."""

    def start(self, images: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """None: there is no adversary."""
        return None

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None,
        start: Tensor | None = None,
    ) -> Step:  # fmt: skip
        outputs = model(images)
        logits = logits_of(outputs)
        return Step(self.cross_entropy(logits, labels) + self.on_auxiliary(outputs, labels), logits.detach())


@dataclass(frozen=True, kw_only=True)
class Adversarial(Method):
    """The cross-entropy of adversarial images (Madry et al., ICLR 2018, https://arxiv.org/abs/1706.06083)."""

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None,
        start: Tensor | None = None,
    ) -> Step:  # fmt: skip
        outputs = model(self.crafted(model, images, labels, generator, start))
        logits = logits_of(outputs)
        return Step(self.cross_entropy(logits, labels) + self.on_auxiliary(outputs, labels), logits.detach())


@dataclass(frozen=True, kw_only=True)
class Fast(Adversarial):
    """FGSM from a random point (Wong et al., ICLR 2020, https://arxiv.org/abs/2001.03994).

    ``gradient_alignment`` is the weight of a regulariser against catastrophic overfitting: ``1 - mean cos(grad l(x),
    grad l(x + noise))``, with noise uniform in the ball (GradAlign, Andriushchenko and Flammarion, NeurIPS 2020,
    https://arxiv.org/abs/2007.02617, Eq. 7). As in their code, the loss is differentiated through both gradients, in
    train mode, and images whose gradient is zero are left out of the mean. Departures from their code: FGSM keeps its
    random start, and only the adversarial images update the running statistics.
    """

    gradient_alignment: float = 0.0

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None,
        start: Tensor | None = None,
    ) -> Step:  # fmt: skip
        step = super().__call__(model, images, labels, generator, start)
        if self.gradient_alignment == 0:
            return step
        misaligned = 1 - self._alignment(model, images, labels, generator)
        return Step(step.loss + self.gradient_alignment * misaligned, step.logits)

    def _alignment(self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None) -> Tensor:
        gradients = []
        with buffers_kept(model):
            for points in (images, self.adversary.random_start(images, generator)):
                points = points.detach().clone().requires_grad_()
                loss = F.cross_entropy(logits_of(model(points)), labels)
                gradients.append(torch.autograd.grad(loss, points, create_graph=True)[0].flatten(1))
        there = (gradients[0].norm(dim=1) > 0) & (gradients[1].norm(dim=1) > 0)
        if not there.any():
            return images.new_ones(())
        return F.cosine_similarity(gradients[0][there], gradients[1][there], dim=1).mean()


@dataclass(frozen=True, kw_only=True)
class Trades(Method):
    """TRADES (Zhang et al., ICML 2019, https://arxiv.org/abs/1901.08573, Eq. 5).

    ``CE(f(x), y) + beta KL(f(x) || f(x'))``, where x' maximises the KL term from a Gaussian start, as in their code.
    Departures from their code: for L2, x' is computed by normalised gradient steps, not by an optimiser. Their code
    passes the clean images through the network twice in train mode, here it is once: there the running statistics of
    the batch norms take in one more batch for each step. The loss is equal.
    """

    beta: float = 6.0

    def start(self, images: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """The images plus a little Gaussian noise."""
        return gaussian_start(images, generator)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None,
        start: Tensor | None = None,
    ) -> Step:  # fmt: skip
        with undisturbed(model, self.adversary.mode):
            with torch.no_grad():
                clean = logits_of(model(images)).softmax(1)
            adversarial = self.adversary(
                model, images,
                lambda logits: F.kl_div(logits.log_softmax(1), clean, reduction="sum"),
                start=self.start(images, generator) if start is None else start,
            )  # fmt: skip
        outputs = model(images)
        logits, adversarial_logits = logits_of(outputs), logits_of(model(adversarial))
        divergence = F.kl_div(adversarial_logits.log_softmax(1), logits.softmax(1), reduction="batchmean")
        loss = self.cross_entropy(logits, labels) + self.beta * divergence + self.on_auxiliary(outputs, labels)
        return Step(loss, adversarial_logits.detach())


@dataclass(frozen=True, kw_only=True)
class Mart(Method):
    """MART (Wang et al., ICLR 2020, https://openreview.net/forum?id=rklOg6EFwS, Eq. 11; constants from their code).

    ``CE(p', y) - log(1 - max over k != y of p'_k) + beta KL(p || p') (1 - p_y)``, where p are the probabilities of a
    clean image and p' those of its adversarial image, which maximises the cross-entropy.
    """

    beta: float = 5.0

    def start(self, images: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """The images plus a little Gaussian noise."""
        return gaussian_start(images, generator)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None,
        start: Tensor | None = None,
    ) -> Step:  # fmt: skip
        adversarial = self.crafted(model, images, labels, generator, start)
        logits = logits_of(model(images))
        outputs = model(adversarial)
        adversarial_logits = logits_of(outputs)
        p, q = logits.softmax(1), adversarial_logits.softmax(1)
        others = q.scatter(1, labels[:, None], -1.0)
        margin = -torch.log(1.0001 - others.max(dim=1).values + 1e-12).mean()
        true = p.gather(1, labels[:, None]).squeeze(1)
        divergence = F.kl_div(torch.log(q + 1e-12), p, reduction="none").sum(1)
        weighted = (divergence * (1.0000001 - true)).mean()
        boosted = F.cross_entropy(adversarial_logits, labels) + margin
        return Step(boosted + self.beta * weighted + self.on_auxiliary(outputs, labels), adversarial_logits.detach())


def gaussian_start(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Images plus the small Gaussian noise from which TRADES and MART start; not clamped, as in their code."""
    return torch.empty_like(images).normal_(0, _START_DEVIATION, generator=generator).add_(images)
