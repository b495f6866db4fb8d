"""Projected gradient descent (PGD), the inner maximisation of adversarial training.

Madry et al., ICLR 2018 (https://arxiv.org/abs/1706.06083): start at a random point of the ball around an image and take
``steps`` gradient ascent steps on a loss; after each step, project the result back into the ball and into [0, 1]. A
single step from a random point is the FGSM of fast adversarial training (Wong et al., ICLR 2020).

By default adversarial images are crafted in eval mode, as in TRADES and MART and as Pang et al. (ICLR 2021) recommend:
the network under attack is then the one that is used after training. In train mode, batch norms use batch statistics,
and their running statistics are restored after the attack. The attack leaves the model unchanged in both modes.

During the attack no parameter requires a gradient, so autograd saves nothing for parameter gradients. In eval mode the
batch norms of the project's networks are folded into the convolutions once for all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas import norms
from nas.cli import bounds
from search_spaces.cells.folding import Foldable, FoldingNetwork

#: logits ``(N, classes)`` -> the scalar that the adversary increases
Objective = Callable[[Tensor], Tensor]

_LEAST_NORM = 1e-10  # keeps divisions by an L2 norm finite; the value that torchattacks uses


@dataclass(frozen=True, kw_only=True)
class PGD:
    """The PGD attack that a training uses, with its settings.

    :param epsilon: radius of the ball, in pixel units of [0, 1], such as ``8/255``; ``step_size`` likewise.
    :param norm: ``Linf``: every pixel changes by at most epsilon; ``L2``: the L2 norm of an image's change is at most
        epsilon.
    :param mode: mode of the model while adversarial images are crafted.
    :raises UserError: one of them is not possible.
    """

    epsilon: float
    step_size: float
    steps: int
    norm: norms.Norm = "Linf"
    mode: Literal["eval", "train"] = "eval"

    def __post_init__(self) -> None:
        norms.check_norm(self.norm)
        bounds.word("attack_mode", self.mode, ("eval", "train"))
        bounds.whole("attack_steps", self.steps, 0)
        object.__setattr__(self, "epsilon", norms.radius(self.epsilon, self.norm))
        if self.step_size != 0:
            object.__setattr__(self, "step_size", norms.step_length(self.step_size, self.norm))

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        objective: Objective,
        *,
        start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Adversarial images ``(N, C, H, W)`` in [0, 1], detached from the autograd graph.

        :param images: pixels in [0, 1]. :param start: the point to start from, by default :meth:`random_start` drawn
            from ``generator``.
        """
        adversarial = self.random_start(images, generator) if start is None else start
        with undisturbed(model, self.mode):
            for _ in range(self.steps):
                adversarial = adversarial.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(objective(logits_of(model(adversarial))), adversarial)
                adversarial = self._stepped(images, adversarial.detach(), gradient)
        return adversarial.detach()

    def random_start(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """A random point in the ball around each image, clamped to [0, 1].

        Linf: uniform in the ball. L2: a uniform direction, with a length drawn uniformly from [0, epsilon].
        """
        noise = torch.empty_like(images)
        if self.norm == "Linf":
            noise.uniform_(-self.epsilon, self.epsilon, generator=generator)
        else:
            noise.normal_(generator=generator)
            length = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device, dtype=images.dtype)
            noise *= self.epsilon * length / _length(noise)
        return noise.add_(images).clamp_(0, 1)

    def _stepped(self, images: Tensor, adversarial: Tensor, gradient: Tensor) -> Tensor:
        """One gradient ascent step, projected back into the ball and into [0, 1]."""
        if self.norm == "Linf":
            moved = adversarial.add(gradient.sign_(), alpha=self.step_size)
            return torch.clamp(moved, images - self.epsilon, images + self.epsilon).clamp_(0, 1)
        change = adversarial + self.step_size * gradient / (_length(gradient) + _LEAST_NORM) - images
        change *= (self.epsilon / _length(change).clamp_min(_LEAST_NORM)).clamp_max(1)
        return change.add_(images).clamp_(0, 1)


def logits_of(outputs: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """The logits of the main head, without those of an auxiliary head; half-precision logits become float32."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


@contextmanager
def undisturbed(model: nn.Module, mode: Literal["eval", "train"]) -> Iterator[None]:
    """A context in which ``model`` is in ``mode`` and no parameter requires a gradient; on exit both are restored.

    In eval mode, a network that can fold its batch norms into its convolutions is folded once for all forward passes.
    Under autocast, its weights are cast once for all of them. If no parameter requires a gradient on entry, an
    enclosing call has already done so, and it is not done again.
    """
    learned = [each for each in model.parameters() if each.requires_grad]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        model.train(mode == "train")
        with ExitStack() as stack:
            if mode == "train":
                stack.enter_context(buffers_kept(model))
            if learned and not hasattr(model, "_orig_mod"):  # torch.compile would compile again for every folding
                networks = [module for module in model.modules() if isinstance(module, FoldingNetwork)]
                for network in networks if mode == "eval" else ():
                    stack.enter_context(network.folded())
                device = learned[0].device.type
                for network in networks if torch.is_autocast_enabled(device) else ():
                    stack.enter_context(weights_cast(network, torch.get_autocast_dtype(device)))
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in learned:
            parameter.requires_grad_(True)


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """A context in which ``model`` uses copies of its buffers (running statistics); on exit it has the originals again.

    The originals are exchanged for copies, not overwritten and restored, because autograd graphs recorded before or
    inside the context may still need the buffers they were recorded with.
    """
    own = [(each._buffers, dict(each._buffers)) for each in model.modules() if each._buffers]
    try:
        for buffers, before in own:
            buffers.update({name: None if value is None else value.clone() for name, value in before.items()})
        yield
    finally:
        for buffers, before in own:
            buffers.update(before)


@contextmanager
def weights_cast(network: FoldingNetwork, dtype: torch.dtype) -> Iterator[None]:
    """A context in which convolutions and linear layers have weights of the type that autocast casts them to.

    Autocast by itself casts weights that do not require a gradient anew in every pass.
    """

    def cast(weight: Tensor | None) -> Any:
        return weight.to(dtype) if weight is not None and weight.dtype == torch.float32 else weight

    own: list[tuple[dict[str, Any], dict[str, Any]]] = []
    folded: set[nn.Module] = set()
    for module in network.modules():
        if isinstance(module, Foldable) and module.folded_tensors is not None:
            module.folded_tensors = tuple(map(cast, module.folded_tensors))  # folded() restores them
            folded.update(module.children())
        plain = type(module) in (nn.Conv2d, nn.Linear) or getattr(module, "computes_conv2d", False)
        if plain and module not in folded:  # of a folded module the children come after it, and are not called
            own.append((module._parameters, dict(module._parameters)))
    try:
        for parameters, before in own:
            parameters.update({name: cast(each) for name, each in before.items()})
        yield
    finally:
        for parameters, before in own:
            parameters.update(before)


def _length(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` -> L2 norms ``(N, 1, 1, 1)``."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norms
