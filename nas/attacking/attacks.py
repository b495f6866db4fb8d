"""Adversarial attacks; the only module that imports torchattacks, and only when one is run.

What torchattacks does otherwise than the papers, and what is done about it here, stands in docs/attacks.md. In short:
AutoAttack is the reference's (Croce and Hein, ICML 2020, https://arxiv.org/abs/2003.01690) with its 100 iterations, its
9 targets and Square's own schedule; an attack leaves the model, its parameters and the random state as they were;
an image that comes back outside the ball or outside [0, 1] is an error, never a success.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.attacking.settings import Member
from nas.errors import AttackFailed, UserError
from nas.training.adversary import PGD

TOLERANCE = 1e-5  # rounding of a projection in float32


def adversarial(model: nn.Module, images: Tensor, labels: Tensor, member: Member, seed: int) -> Tensor:
    """``images`` ``(N, C, H, W)`` in [0, 1] as ``member`` changes them; unchanged where it fails and gives up.

    :param model: images -> logits, called in eval mode; it and the random state stay as they were, also on an error.
    :param seed: the result is a function of the arguments; on a CPU of one number of threads, an exact one.
    :raises AttackFailed: an image came back outside [0, 1] or further away than epsilon.
    """
    with untouched(model, seed), torch.inference_mode(False), torch.enable_grad():
        images, labels = images.clone(), labels.clone()
        if member.epsilon == 0 or not len(images):
            return images
        wrapped = _Wrapped(model, images.device)
        try:
            changed = _METHODS[member.method](wrapped, images, labels, member, seed).detach()
        finally:
            wrapped.release()
    return _checked(images, changed, member)


@contextmanager
def untouched(model: nn.Module, seed: int) -> Iterator[None]:
    """Inside, ``model`` is in eval mode, its parameters frozen, torch's generators seeded; afterwards all is as before.

    torchattacks seeds torch globally at each call, and leaves the mode changed when an attack is broken off.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameters = [(each, each.requires_grad, each.grad) for each in model.parameters()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call,unused-ignore]
    devices = list(range(torch.cuda.device_count())) if used else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            model.eval()
            for parameter, _, _ in parameters:
                parameter.requires_grad_(False)
            yield
    finally:
        for parameter, required, gradient in parameters:
            parameter.requires_grad_(required)
            parameter.grad = gradient
        for module, training in modes:
            module.training = training
        np.random.set_state(numpy_state)
        random.setstate(python_state)


class _Wrapped(nn.Module):
    """The model as torchattacks is given it: always in eval mode, with a parameter that tells the device.

    torchattacks keeps every object that an attack ever held, hence :meth:`release`, and takes views of gradients,
    which works with contiguous ones only.
    """

    def __init__(self, model: nn.Module, device: torch.device):
        super().__init__()
        self.inner: tuple[nn.Module, ...] = (model,)  # in a tuple: no submodule, whose mode torchattacks would change
        self.where = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            images.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call,unused-ignore]
        logits: Tensor = self.inner[0](images)
        return logits

    def release(self) -> None:
        self.inner = ()


class _Shifted(_Wrapped):
    """Logits from 0 upwards: torchattacks' CW takes the largest of the others for at least 0."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits - logits.detach().amin(dim=1, keepdim=True)


def _torchattacks() -> Any:
    try:
        import torchattacks
    except ImportError as error:
        raise UserError(f"attacks need the package torchattacks: {error}") from None
    return torchattacks


def _fgsm(model: _Wrapped, images: Tensor, labels: Tensor, member: Member, seed: int) -> Any:
    if member.norm == "Linf":
        return _torchattacks().FGSM(model, eps=member.epsilon)(images, labels)
    one_step = {"eps": member.epsilon, "alpha": member.epsilon, "steps": 1, "random_start": False}
    return _torchattacks().PGDL2(model, **one_step)(images, labels)


def _pgd(model: _Wrapped, images: Tensor, labels: Tensor, member: Member, seed: int) -> Any:
    make = _torchattacks().PGD if member.norm == "Linf" else _torchattacks().PGDL2
    steps, step_size = member.settings["steps"], member.settings["step_size"]
    return make(model, eps=member.epsilon, alpha=step_size, steps=steps, random_start=True)(images, labels)


def _common(member: Member, seed: int) -> dict[str, Any]:
    return {"norm": member.norm, "eps": member.epsilon, "seed": seed, "n_restarts": member.settings["restarts"]}


def _apgd_ce(model: _Wrapped, images: Tensor, labels: Tensor, member: Member, seed: int) -> Any:
    options = {**_common(member, seed), "steps": member.settings["steps"], "loss": "ce"}
    return _torchattacks().APGD(model, **options)(images, labels)


def _apgd_t(model: _Wrapped, images: Tensor, labels: Tensor, member: Member, seed: int) -> Any:
    steps, targets = member.settings["steps"], member.settings["targets"]
    options = {**_common(member, seed), "steps": steps}
    if member.norm == "Linf":
        return _torchattacks().APGDT(model, **options, n_classes=targets + 1)(images, labels)
    return _apgd_t_l2(_torchattacks().APGD(model, **options, loss="dlr"), model, images, labels, targets)


def _apgd_t_l2(apgd: Any, model: _Wrapped, images: Tensor, labels: Tensor, targets: int) -> Tensor:
    """Targeted APGD from the untargeted one: torchattacks' own takes every L2 step with the first sample's size."""
    changed, left = images.clone(), torch.arange(len(images), device=images.device)
    for rank in range(2, targets + 2):
        with torch.no_grad():
            logits = model(images[left])
        left, logits = (each[logits.argmax(1) == labels[left]] for each in (left, logits))
        if not len(left):
            break
        target = logits.sort(dim=1)[1][:, -rank]
        apgd.dlr_loss = lambda z, y, target=target: targeted_dlr_loss(z, y, target)
        _, correct, _, found = apgd.attack_single_run(images[left], labels[left])
        fooled = correct == 0
        changed[left[fooled]] = found[fooled].detach()
        left = left[~fooled]
    return changed


def targeted_dlr_loss(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """``(N, K)``, K at least 4 -> ``(N,)``: Croce and Hein, equation 7."""
    ordered = logits.sort(dim=1)[0]
    rows = torch.arange(len(logits), device=logits.device)
    spread = ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4]) + 1e-12
    return -(logits[rows, labels] - logits[rows, target]) / spread


def _fab(model: _Wrapped, images: Tensor, labels: Tensor, member: Member, seed: int) -> Any:
    options = {**_common(member, seed), "steps": member.settings["steps"]}
    if "targets" in member.settings:
        options |= {"multi_targeted": True, "n_classes": member.settings["targets"] + 1}
    return _torchattacks().FAB(model, **options)(images, labels)


def _square(model: _Wrapped, images: Tensor, labels: Tensor, member: Member, seed: int) -> Any:
    options = {**_common(member, seed), "n_queries": member.settings["queries"], "resc_schedule": False}
    return _torchattacks().Square(model, **options)(images, labels)


def _cw(model: _Wrapped, images: Tensor, labels: Tensor, member: Member, seed: int) -> Tensor:
    if member.norm == "Linf":
        return _margin_pgd(model, images, labels, member)
    settings, shifted = member.settings, _Shifted(model, images.device)
    options = {"c": settings["c"], "kappa": settings["kappa"], "steps": settings["steps"]}
    found = _torchattacks().CW(shifted, **options, lr=settings["learning_rate"])(images, labels)
    shifted.release()
    near = (found - images).flatten(1).norm(dim=1) <= member.epsilon  # it looks for the nearest one, however far
    return torch.where(near.view(-1, 1, 1, 1), found, images)


def _margin_pgd(model: _Wrapped, images: Tensor, labels: Tensor, member: Member) -> Tensor:
    """PGD on the margin loss of Carlini and Wagner (S&P 2017), as Madry et al. attack with it in Linf."""
    pgd = PGD(epsilon=member.epsilon, step_size=member.settings["step_size"], steps=member.settings["steps"])

    def margin(logits: Tensor) -> Tensor:
        own = F.one_hot(labels, logits.shape[1]).bool()
        return (logits.masked_fill(own, -torch.inf).amax(1) - logits[own]).sum()

    return pgd(model, images, margin)


_METHODS: dict[str, Callable[[_Wrapped, Tensor, Tensor, Member, int], Any]] = {
    "fgsm": _fgsm, "pgd": _pgd, "apgd-ce": _apgd_ce, "apgd-t": _apgd_t, "fab": _fab, "fab-t": _fab,
    "square": _square, "cw": _cw,
}  # fmt: skip


def _checked(images: Tensor, changed: Tensor, member: Member) -> Tensor:
    """``changed``, with the clean image where an attack returned no numbers, which it would count as a success."""
    usable = changed.isfinite().flatten(1).all(1)
    changed = torch.where(usable.view(-1, 1, 1, 1), changed, images)
    distance = (changed - images).flatten(1)
    radius = distance.abs().amax(1) if member.norm == "Linf" else distance.norm(dim=1)
    allowed = member.epsilon * (1 + TOLERANCE) + TOLERANCE / 10
    if not bool((radius <= allowed).all()):
        raise AttackFailed(
            f"{member.name} returned an image at {member.norm} distance {float(radius.max()):.6g}, expected at most"
            f" epsilon {member.epsilon:.6g}"
        )
    if float(changed.min()) < 0 or float(changed.max()) > 1:
        got = f"{float(changed.min()):.6g} to {float(changed.max()):.6g}"
        raise AttackFailed(f"{member.name} returned an image with pixels from {got}, expected 0 to 1")
    return changed
