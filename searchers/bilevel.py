"""The bilevel optimisation of DARTS (Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055) on a supernet.

Training images are split into two halves. For each pair of batches, the architecture weights take a step that lowers
the loss of the batch of the second half, then the network's weights take one that lowers the loss of the first half's.
The optimizers and their settings are those of the published program. Departures from it:

* Images are pixels in [0, 1], neither augmented nor standardised: a batch norm follows the first convolution.
* Batches of an epoch have equal sizes, at most the one asked for, so that none is too small for batch norms.
* Adversarial images, where asked for, are crafted in train mode, like the losses; only input curvature is not.

With Gumbel sampling (GDAS: Dong and Yang, CVPR 2019, https://arxiv.org/abs/1910.04465) each batch sees a network with a
single operation on each edge. The gradient is the straight-through one: that of the softmax of the perturbed weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.cells.supernet import Supernet
from searchers.adversarial import Logits, adversarial_images, curvature
from searchers.base import SearcherStopped
from searchers.darts import LAST_TEMPERATURE

if TYPE_CHECKING:
    from searchers.darts import Darts

MOMENTUM, WEIGHT_DECAY, GRADIENT_CLIP = 0.9, 3e-4, 5.0  # of the network's weights
LEAST_RATE = 0.04  # the learning rate's share at the end of its cosine: 0.025 to 0.001, as published
BETAS, ARCHITECTURE_DECAY = (0.5, 0.999), 1e-3  # of the architecture weights
HESSIAN_STEP = 0.01  # the finite difference's, divided by the norm of the direction

#: of a batch: the sum of the losses, the number of images classified correctly, the number of images
Figures = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images ``(N, C, H, W)`` in [0, 1] and labels ``(N,)``.

    ``noise`` is that of the batch's Gumbel sample, by the name of the cell ``(edges, operations)``; None without one.
    """

    images: Tensor
    labels: Tensor
    noise: dict[str, Tensor] | None


def generator(*seed: int) -> torch.Generator:
    """A generator of the CPU whose numbers depend on ``seed`` only."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def halves(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of two disjoint sets of images, ``count`` together or as many as there are, drawn class-balanced.

    Classes take turns, one image each; the images of a class go to the two sets alternately.
    """
    order = torch.randperm(len(labels), generator=generator(seed))
    classes = torch.unique(labels[order], return_inverse=True)[1]
    turns = torch.empty_like(order)
    for each in range(int(classes.max()) + 1):
        members = classes == each
        turns[members] = torch.arange(int(members.sum()))
    first = turns.argsort(stable=True)[:count]
    second = (turns[first] + classes[first]) % 2 == 1
    return order[first[~second]], order[first[second]]


def gumbel_sample(architecture: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """A sample ``(edges, operations)`` of exact ones and zeros, one operation an edge, with the softmax's gradient.

    :param architecture: weights before the softmax. :param noise: of the standard Gumbel distribution.
    """
    soft = ((architecture.log_softmax(-1) + noise) / temperature).softmax(-1)
    hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
    return hard + (soft - soft.detach())


class Bilevel:
    """The two levels' weights and optimizers.

    :param images: uint8 ``(N, C, H, W)``, of which ``options.search_images`` are used. :param labels: ``(N,)``.
    :param epochs: over which the learning rate and the temperature fall.
    """

    def __init__(
        self, supernet: Supernet, options: Darts.Options, images: Tensor, labels: Tensor, *, seed: int, epochs: int
    ):
        self.supernet = supernet.train()
        self.options = options
        self.seed = seed
        self.epochs = epochs
        self.network = supernet.network_parameters()
        self.architecture = list(supernet.architecture.values())
        self.device = self.network[0].device
        self.halves = [
            (images[rows].to(self.device), labels[rows].to(self.device))
            for rows in halves(labels.cpu(), options.search_images, seed)
        ]
        self.sgd = torch.optim.SGD(self.network, lr=options.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self.adam = torch.optim.Adam(
            self.architecture, lr=options.architecture_learning_rate, betas=BETAS, weight_decay=ARCHITECTURE_DECAY
        )
        self._temperature = options.gumbel

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that an epoch changes."""
        parts = {
            "supernet": dict(self.supernet.state_dict()), "sgd": self.sgd.state_dict(), "adam": self.adam.state_dict()
        }  # fmt: skip
        return copy.deepcopy(parts)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        self.supernet.load_state_dict(state["supernet"])
        self.sgd.load_state_dict(state["sgd"])
        self.adam.load_state_dict(state["adam"])

    def epoch(self, number: int) -> dict[str, float]:
        """Train for one epoch and return the mean losses and accuracies of both halves.

        They are those of the images and networks that the losses see, adversarial or sampled ones where so asked.

        :param number: of the epoch, from 0. What it draws depends on the seed and on this number.
        :raises SearcherStopped: a loss is not a finite number.
        """
        progress = number / self.epochs
        cosine = LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * progress)) / 2
        self.sgd.param_groups[0]["lr"] = self.options.learning_rate * cosine
        first = self.options.gumbel
        self._temperature = first + (min(LAST_TEMPERATURE, first) - first) * progress
        moves, curved = number >= self.options.warm_up_epochs, number >= self.options.curvature_from
        figures: list[Tensor] = []  # a row for each pair of batches: loss, correct and count of both
        for train, valid in self._pairs(generator(self.seed, number + 1)):
            if moves:
                found = self._move_architecture(train, valid, curved)
            else:
                with torch.no_grad():
                    found = self._loss(valid)[1]
            figures.append(torch.stack([*self._move_network(train), *found]))
        names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
        sums = torch.stack(figures).double().sum(0).tolist()
        means = [sums[place] / sums[count] for place, count in ((0, 2), (1, 2), (3, 5), (4, 5))]
        if not all(map(math.isfinite, means)) or not all(bool(each.isfinite().all()) for each in self.architecture):
            raise SearcherStopped(
                f"the loss of the supernet is not finite in epoch {number + 1}; a lower --learning-rate may help"
            )
        return {name: round(mean, 6) for name, mean in zip(names, means, strict=True)}

    def _pairs(self, random: torch.Generator) -> Iterator[tuple[Batch, Batch]]:
        """The batches of an epoch in random order, one of each half at a time."""
        count = math.ceil(len(self.halves[0][1]) / self.options.batch_size)
        rows = [torch.randperm(len(labels), generator=random).tensor_split(count) for _, labels in self.halves]
        for chosen in zip(*rows, strict=True):
            train, valid = (
                self._batch(images[each], labels[each], random)
                for (images, labels), each in zip(self.halves, chosen, strict=True)
            )
            yield train, valid

    def _batch(self, images: Tensor, labels: Tensor, random: torch.Generator) -> Batch:
        noise = None
        if self.options.gumbel:
            draws = {name: torch.empty(self.supernet.architecture[name].shape) for name in self.supernet.groups}
            noise = {name: -each.exponential_(generator=random).log().to(self.device) for name, each in draws.items()}
        batch = Batch(images=images.float() / 255, labels=labels, noise=noise)
        if self.options.inner == "clean":
            return batch
        with self._learning():
            moved = adversarial_images(self._logits(batch), batch.images, labels, self.options.inner, random)
        return Batch(images=moved, labels=labels, noise=noise)

    def _logits(self, batch: Batch) -> Logits:
        """The supernet as the batch sees it, as a function of images."""
        mixing = None
        if batch.noise is not None:
            mixing = {
                name: gumbel_sample(self.supernet.architecture[name], noise, self._temperature)
                for name, noise in batch.noise.items()
            }
        return partial(self.supernet, mixing=mixing)

    def _loss(self, batch: Batch) -> tuple[Tensor, Figures]:
        """The mean cross-entropy, and what it adds to the figures of the epoch."""
        logits = self._logits(batch)(batch.images)
        loss = F.cross_entropy(logits, batch.labels)
        count = torch.tensor(float(len(batch.labels)), device=self.device)
        correct = (logits.detach().argmax(1) == batch.labels).sum()
        return loss, (loss.detach() * count, correct, count)

    def _architecture_loss(self, batch: Batch, curved: bool) -> tuple[Tensor, Figures]:
        loss, figures = self._loss(batch)
        if curved and self.options.curvature_weight:
            self.supernet.eval()
            loss = loss + self.options.curvature_weight * curvature(self._logits(batch), batch.images, batch.labels)
            self.supernet.train()
        return loss, figures

    def _move_network(self, batch: Batch) -> Figures:
        with self._learning(self.network):
            loss, figures = self._loss(batch)
            gradients = torch.autograd.grad(loss, self.network, allow_unused=True)  # sampled networks use some only
        for parameter, gradient in zip(self.network, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(self.network, GRADIENT_CLIP)
        self.sgd.step()
        return figures

    def _move_architecture(self, train: Batch, valid: Batch, curved: bool) -> Figures:
        if self.options.order == 2:
            gradients, figures = self.second_order(train, valid, curved)
        else:
            with self._learning(self.architecture):
                loss, figures = self._architecture_loss(valid, curved)
                gradients = self._gradients(loss, self.architecture)
        for parameter, gradient in zip(self.architecture, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        return figures

    def second_order(self, train: Batch, valid: Batch, curved: bool) -> tuple[Sequence[Tensor], Figures]:
        """The gradient of the loss of ``valid`` by the architecture weights, one step of SGD on ``train`` ahead.

        The step's dependence on the architecture weights is a finite difference of gradients (equation 8 of the paper).
        The network's weights are as before afterwards.
        """
        rate = self.sgd.param_groups[0]["lr"]
        before = [parameter.detach().clone() for parameter in self.network]
        with self._learning(self.network):
            gradients = self._gradients(self._loss(train)[0], self.network)
        self._set(self._stepped(before, gradients, rate))
        with self._learning(self.network, self.architecture):
            loss, figures = self._architecture_loss(valid, curved)
            found = self._gradients(loss, [*self.architecture, *self.network])
        direct, direction = found[: len(self.architecture)], found[len(self.architecture) :]
        step = HESSIAN_STEP / float(nn.utils.get_total_norm(direction))
        sides = []
        for sign in (1, -1):
            self._set([weight + sign * step * each for weight, each in zip(before, direction, strict=True)])
            with self._learning(self.architecture):
                sides.append(self._gradients(self._loss(train)[0], self.architecture))
        self._set(before)
        mixed = [(plus - minus) / (2 * step) for plus, minus in zip(*sides, strict=True)]
        return [each - rate * change for each, change in zip(direct, mixed, strict=True)], figures

    def _stepped(self, weights: Sequence[Tensor], gradients: Sequence[Tensor], rate: float) -> list[Tensor]:
        """The network's weights after the optimizer's next step, without the clipping of gradients."""
        moved = []
        for parameter, weight, gradient in zip(self.network, weights, gradients, strict=True):
            change = gradient + WEIGHT_DECAY * weight
            momentum = self.sgd.state[parameter].get("momentum_buffer")
            moved.append(weight - rate * (change if momentum is None else change + MOMENTUM * momentum))
        return moved

    @torch.no_grad()
    def _set(self, weights: Sequence[Tensor]) -> None:
        for parameter, weight in zip(self.network, weights, strict=True):
            parameter.copy_(weight)

    @staticmethod
    def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)

    @contextmanager
    def _learning(self, *groups: Sequence[nn.Parameter]) -> Iterator[None]:
        """A context in which only the parameters of these groups require gradients: others cost no computation."""
        chosen = {id(parameter) for group in groups for parameter in group}
        every = [*self.network, *self.architecture]
        try:
            for parameter in every:
                parameter.requires_grad_(id(parameter) in chosen)
            yield
        finally:
            for parameter in every:
                parameter.requires_grad_(True)
