"""The package torchattacks, imported here and nowhere else, and only when an attack is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import UserError


def torchattacks() -> Any:
    """:raises UserError: the package is not installed."""
    try:
        import torchattacks
    except ImportError as error:
        raise UserError(f"attacks need the package torchattacks: {error}") from None
    return torchattacks


class Shell(nn.Module):
    """The model as torchattacks is given it: always in eval mode, with a parameter that tells the device.

    torchattacks takes views of gradients, which must be contiguous for that. It also keeps every object that an attack
    ever held in memory: :func:`shell` takes the model out again.
    """

    def __init__(self, model: nn.Module, device: torch.device):
        super().__init__()
        self.inner: tuple[nn.Module, ...] = (model,)  # in a tuple: no submodule, whose mode torchattacks would change
        self.device_parameter = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            images.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call,unused-ignore]
        logits: Tensor = self.inner[0](images)
        return logits


@contextmanager
def shell(model: nn.Module, images: Tensor, kind: type[Shell] = Shell) -> Iterator[Shell]:
    """The model in a shell on the device of ``images``, which holds it until the context ends."""
    made = kind(model, images.device)
    try:
        yield made
    finally:
        made.inner = ()
