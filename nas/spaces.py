"""Search spaces by name, and those that users bring: given as objects, or imported where the command line names them.

A run directory or a checkpoint holds the name of its space and, of a user's space, a fingerprint. Neither is ever
imported: whoever reads the file gives the space, and the fingerprint tells whether it is the same.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nas.cli.fields import option
from nas.errors import UserError, as_user_error
from search_spaces import SPACES, get_space
from search_spaces.base import NetworkSpec, SearchSpace, unknown_name

#: where a run's manifest and a stored architecture hold the fingerprint of a user's space
FINGERPRINT = "space_fingerprint"
SAMPLES = 4  # genotypes that a fingerprint is made of


@dataclass(frozen=True, kw_only=True)
class SpaceOptions:
    """For commands that read a trained model."""

    space: str | None = option(None, "search space of the model, where it is your own: module:Class, which is imported")


def known_space(
    name: str, given: SearchSpace[Any] | None = None, fingerprint: str | None = None
) -> SearchSpace[Any]:
    """The space called ``name``: ``given``, or one of this program's.

    :param fingerprint: of the space that a run or a checkpoint was made in; None of one of this program's.
    :raises UserError: there is no such space, or it is another than that of the fingerprint.
    """
    if given is None and name not in SPACES:
        raise unknown_space("search space", name, SPACES)
    space = get_space(name) if given is None else given
    if space.name != name:
        raise UserError(f"the space must be '{name}', got '{space.name}'")
    got = own_fingerprint(space)
    if got != fingerprint and (fingerprint is not None or name in SPACES):
        own = "none, as one of this program's"
        raise UserError(
            f"the space '{name}' is another one, or was changed: its fingerprint is {got or own},"
            f" expected {fingerprint or own}"
        )
    return space


def unknown_space(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that none of ``names`` is, but that a user's space may have."""
    return UserError(
        f"{unknown_name(kind, name, names)}; one of your own is given as --space module:Class, or space= from Python"
    )


def own_fingerprint(space: SearchSpace[Any]) -> str | None:
    """16 hexadecimal digits that change with what a user's space samples, writes and builds; None of another space.

    They are a hash over notation, canonical key and cost of a few genotypes drawn from a fixed seed.

    :raises UserError: the space cannot tell what its standard network costs.
    """
    if space.name in SPACES and type(get_space(space.name)) is type(space):
        return None
    rng, digest = np.random.default_rng(0), hashlib.sha256()
    spec = NetworkSpec(channels=space.default_channels, layers=space.default_layers)
    for _ in range(SAMPLES):
        genotype = space.sample(rng)
        cost = as_user_error(partial(space.cost, genotype, spec))
        digest.update(f"{space.format(genotype)} {space.canonical(genotype)} {cost.params} {cost.macs}\n".encode())
    return digest.hexdigest()[:16]


def named_space(argv: Sequence[str]) -> tuple[list[str], SearchSpace[Any] | None]:
    """The words of a command line with the space's name after ``--space``, and the space; None where none is named.

    ``--space module:Class`` is imported. That holds for the command line alone: neither a file of ``--config`` nor a
    run directory can name what is imported.

    :raises UserError: there is no such space.
    """
    words = [part for word in argv for part in (["--space", word[8:]] if word.startswith("--space=") else [word])]
    space: SearchSpace[Any] | None = None
    for place in range(1, len(words)):
        if words[place - 1] == "--space":
            space = _imported(words[place]) if ":" in words[place] else known_space(words[place])
            words[place] = space.name
    return words, space


def _imported(text: str) -> SearchSpace[Any]:
    """The space that ``module:Class`` makes without arguments, or that ``module:object`` is."""
    module, _, name = text.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
        space = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"--space {text} cannot be imported: {' '.join(str(error).split())}") from None
    if not isinstance(space, SearchSpace):
        raise UserError(f"--space {text} must be a SearchSpace, got {type(space).__name__}")
    return space
