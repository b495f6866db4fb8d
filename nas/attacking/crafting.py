"""Running an attack: what surrounds every one of them, the project's and a user's.

An attack leaves the model, its parameters and the random state as they were. An image that comes back outside the ball
or outside [0, 1] is an error, never a success.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from nas.attacking.base import Attack
from nas.errors import AttackFailed, Stopped, UserError
from nas.executors.failures import machine_failure
from nas.models.logits import not_finite
from nas.training.adversary import undisturbed

TOLERANCE = 1e-5  # rounding of a projection in float32


def adversarial(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, seed: int, called: nn.Module | None = None
) -> Tensor:
    """``images`` ``(N, C, H, W)`` in [0, 1] as the attack changes them.

    :param model: images -> logits, called in eval mode; it and the random state stay as they were, also on an error.
    :param seed: equal arguments give equal images; bit for bit on a CPU, with one number of threads.
    :param called: the same function as ``model``, for an attack that only calls it.
    :raises AttackFailed: the attack raised an error, or an image came back outside [0, 1] or further than epsilon.
    """
    with torch.inference_mode(False), torch.enable_grad(), untouched(model, seed):
        images, labels = images.detach().clone(), labels.clone()
        if attack.epsilon == 0 or not len(images):
            return images
        with _unchanged(model, attack):
            shown = called if called is not None and attack.only_calls else model
            changed = _run(attack, shown, images.clone(), labels, seed)
        return _checked(images, changed, attack)


def _run(attack: Attack, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    try:
        return attack.run(model, images, labels, seed)
    except (UserError, Stopped):
        raise
    except Exception as error:  # of torchattacks, of the model, or of a user's own attack: it may be anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise AttackFailed(f"{attack.name} failed on {len(images)} images, {reason}") from error


def finite_logits(model: nn.Module, images: Tensor, seed: int, *, made_by: str, numbers: Sequence[int]) -> Tensor:
    """The model's logits ``(N, classes)`` in eval mode; model and random state stay as they were.

    :param made_by: the attack that the images come from, for the error. :param numbers: each image's, likewise.
    :raises UserError: the model raises an error, does not return logits of at least 2 classes, or one is not finite.
    """
    try:
        with untouched(model, seed), torch.no_grad():
            logits = model(images)
    except Exception as error:  # a user's model may raise anything
        if (failure := machine_failure(error)) is not None:
            raise failure from None
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"the model cannot classify {images.dtype} images {tuple(images.shape)}, {got}") from error
    if not isinstance(logits, Tensor) or logits.shape[:-1] != images.shape[:1] or logits.shape[1] < 2:
        got = str(tuple(logits.shape)) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"the model must return logits ({len(images)}, classes) of at least 2 classes, got {got}")
    found = not_finite(logits)
    if found is not None:
        which = f"image {numbers[found[0]]} ({made_by})"
        raise UserError(f"the model must return finite logits, got {found[1]} for {which}")
    return logits


@contextmanager
def untouched(model: nn.Module, seed: int) -> Iterator[None]:
    """Inside, the model is in eval mode, its parameters frozen, global generators seeded; afterwards all is as before.

    torchattacks seeds torch globally at each call, and leaves the model's mode changed when an exception ends it.
    Batch norms that can be folded into convolutions are folded once for all that happens inside.
    """
    parameters = [(each, each.requires_grad, each.grad) for each in model.parameters()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call,unused-ignore]
    devices = list(range(torch.cuda.device_count())) if used else []
    try:
        with torch.random.fork_rng(devices=devices), undisturbed(model, "eval"):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        for parameter, required, gradient in parameters:
            parameter.requires_grad_(required)
            parameter.grad = gradient
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextmanager
def _unchanged(model: nn.Module, attack: Attack) -> Iterator[None]:
    """Inside, the attack may not change parameters, buffers or hooks of the model; the tensors are restored.

    :raises AttackFailed: it has changed one of them.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before, hooks = {name: each.detach().clone() for name, each in tensors.items()}, _hooks(model)
    try:
        yield
    finally:
        wrong = [name for name, each in tensors.items() if not _same(each, before[name])]
        with torch.no_grad():
            for name in wrong:
                tensors[name].copy_(before[name])
    wrong += ["hooks"] * (_hooks(model) != hooks)
    if wrong:
        raise AttackFailed(f"{attack.name} changed the model ({wrong[0]}), which an attack must leave as it is")


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape hold the same; a NaN equals itself."""
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


def _hooks(model: nn.Module) -> list[int]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [key for module in model.modules() for kind in kinds for key in getattr(module, kind)]


def _checked(images: Tensor, changed: Tensor, attack: Attack) -> Tensor:
    """``changed``, with the clean image wherever one holds a NaN or an infinity, which would count as a success."""
    if not isinstance(changed, Tensor) or changed.shape != images.shape:
        got = str(tuple(changed.shape)) if isinstance(changed, Tensor) else type(changed).__name__
        raise AttackFailed(f"{attack.name} returned {got}, expected images {tuple(images.shape)}")
    changed = changed.detach()
    usable = changed.isfinite().flatten(1).all(1)
    changed = torch.where(usable.view(-1, 1, 1, 1), changed, images)
    distance = (changed - images).flatten(1)
    radius = distance.abs().amax(1) if attack.norm == "Linf" else distance.norm(dim=1)
    allowed = attack.epsilon * (1 + TOLERANCE) + TOLERANCE / 10
    if not bool((radius <= allowed).all()):
        raise AttackFailed(
            f"{attack.name} returned an image at {attack.norm} distance {float(radius.max()):.6g}, expected at most"
            f" epsilon {attack.epsilon:.6g}"
        )
    if float(changed.min()) < 0 or float(changed.max()) > 1:
        low, high = float(changed.min()), float(changed.max())
        raise AttackFailed(f"{attack.name} returned an image with pixels from {low:.6g} to {high:.6g}, expected 0 to 1")
    return changed
