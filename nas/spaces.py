"""Search spaces by name, and users' own spaces, which are given as objects or as ``module:Class`` on the command line.

A run directory or a checkpoint stores the name of its space and, for a user's own space, a fingerprint. Nothing is ever
imported because such a file names it: the caller gives the space again, and the fingerprint shows whether it is the
same.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nas.cli.fields import option
from nas.errors import UserError, as_user_error
from search_spaces import SPACES, get_space
from search_spaces.base import NetworkSpec, SearchSpace, unknown_name

#: key of the fingerprint of a user's own space, in a run's manifest and in a stored architecture
FINGERPRINT = "space_fingerprint"
SAMPLES = 4  # number of genotypes that a fingerprint is computed from


@dataclass(frozen=True, kw_only=True)
class SpaceOptions:
    """The option of commands that read a trained model."""

    space: str | None = option(None, "search space of the model, where it is your own: module:Class, which is imported")


def known_space(
    name: str, given: SearchSpace[Any] | None = None, fingerprint: str | None = None
) -> SearchSpace[Any]:
    """The space called ``name``: ``given``, or the program's own space of that name if ``given`` is None.

    :param fingerprint: that of the space in which a run or a checkpoint was made; None for one of the program's spaces.
    :raises UserError: there is no such space, or its name or fingerprint is a different one.
    """
    if given is None and name not in SPACES:
        raise unknown_space("search space", name, SPACES)
    space = get_space(name) if given is None else check_space(given)
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


def check_space(space: Any) -> SearchSpace[Any]:
    """``space``, if it can be given to a search.

    :raises UserError: it is no space object, its name cannot name files, or it is the name of one of the program's own
        spaces.
    """
    if not isinstance(space, SearchSpace):
        hint = f"the class {space.__name__}" if isinstance(space, type) else f"{type(space).__name__}"
        raise UserError(f"space must be a name or a SearchSpace object, got {hint}")
    name = getattr(space, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise UserError(f"the name of a space must be a word of letters, digits, '_', '-' and '.', got {name!r:.60}")
    if name in SPACES and type(get_space(name)) is not type(space):
        raise UserError(f"the name of a space of your own must not be one of {', '.join(SPACES)}, got {name}")
    return space


def unknown_space(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a space that is not one of ``names``; the message says how to give a space of one's own."""
    return UserError(
        f"{unknown_name(kind, name, names)}; one of your own is given as --space module:Class, or space= from Python"
    )


def own_fingerprint(space: SearchSpace[Any]) -> str | None:
    """The fingerprint of a user's own space, 16 hexadecimal digits; None for one of the program's spaces.

    It is a hash over the notation, the canonical key, and the parameters and MACs of a few genotypes drawn with a fixed
    seed. It changes when the space samples, writes or counts differently; it does not see what ``build`` computes.

    :raises UserError: the space cannot compute the cost of its standard network.
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
    """The space given by ``--space``, and the arguments with the name of the space in place of ``module:Class``.

    The space is None if ``argv`` has no ``--space``. ``module:Class`` is imported only if it is given as an argument:
    neither a file given by ``--config`` nor a run directory can cause an import.

    :returns: the arguments, and the space.
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
    """The space given by ``module:Class``, which is called without arguments, or by ``module:object``."""
    module, _, name = text.partition(":")
    if os.getcwd() not in sys.path:  # as python -m has it; the script nas does not
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
        space = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"--space {text} cannot be imported: {reason}") from None
    if not isinstance(space, SearchSpace):
        raise UserError(f"--space {text} must be a SearchSpace, got {type(space).__name__}")
    return check_space(space)
