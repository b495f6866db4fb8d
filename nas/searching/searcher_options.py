"""The options of all registered searchers as flags of one command. A flag applies to the searchers that declare it."""

from __future__ import annotations

import dataclasses
import re
import typing
from typing import Any

from nas.cli.bounds import flag
from nas.cli.fields import option, options_of, plain
from nas.errors import UserError, as_user_error
from searchers import SEARCHERS, get_searcher
from searchers.base import Searcher


def all_options() -> dict[str, tuple[str, ...]]:
    """The name of each option, with the names of the searchers that have it."""
    owners: dict[str, tuple[str, ...]] = {}
    for searcher in SEARCHERS:
        for field in options_of(get_searcher(searcher).Options):
            owners[field.name] = (*owners.get(field.name, ()), searcher)
    return owners


def options_group() -> type[Any]:
    """A dataclass with every option of every searcher, for the command line's parser. None means: not given."""
    fields: list[tuple[str, Any, Any]] = []
    for name, owners in all_options().items():
        groups = {owner: get_searcher(owner).Options for owner in owners}
        hints = [typing.get_type_hints(group)[name] for group in groups.values()]
        if any(hint != hints[0] for hint in hints):
            raise TypeError(f"the option {name} must be of one type in the searchers {', '.join(owners)}, got {hints}")
        declared = {owner: group.__dataclass_fields__[name] for owner, group in groups.items()}
        texts = [f"{owner}: {field.metadata['help']} (default: {field.default})" for owner, field in declared.items()]
        fields.append((name, hints[0] | None, option(None, "; ".join(texts), only_with=("searcher", *owners))))
    return dataclasses.make_dataclass("AllSearcherOptions", fields, frozen=True, kw_only=True)


def make_options(searcher: str, given: dict[str, Any]) -> Searcher.Options:
    """The options of the searcher: the values given, and the defaults of all others. None means: not given.

    :raises UserError: the searcher is unknown, an option belongs to another searcher, or a value is invalid.
    """
    made = as_user_error(lambda: get_searcher(searcher)).Options
    own = [field.name for field in options_of(made)]
    given = {name: plain(value) for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in own:
            needed = " or ".join(all_options()[name])
            raise UserError(f"{flag(name)} {value} needs --searcher {needed}, got {searcher}")
    try:
        return made(**given)
    except ValueError as error:  # its message names fields; the user knows them as flags
        message = " ".join(str(error).split())
        raise UserError(re.sub(rf"\b({'|'.join(own)})\b", lambda match: flag(match[0]), message)) from None
