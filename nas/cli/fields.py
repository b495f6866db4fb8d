"""The fields of configuration dataclasses, their types, and the differences between two configurations."""

from __future__ import annotations

import dataclasses
import os
import typing
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from nas.cli.bounds import flag
from nas.errors import UserError


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A field of a configuration, with its help text and other metadata for the command line."""
    return dataclasses.field(default=default, metadata={"help": help, **metadata})


def path_option(default: str | None, help: str, **metadata: Any) -> Any:
    """An option that names a file or a folder; :func:`nas.files.as_path` makes a path of its value."""
    return option(default, help, path=True, **metadata)


def options_of(group: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that are options: those that ``__init__`` takes and that have a help text."""
    return [field for field in dataclasses.fields(group) if field.init and "help" in field.metadata]


def check_types(group: Any) -> None:
    """Check that the options of a dataclass have values of their types; None may stand for a default.

    Numbers of other libraries, such as numpy's, become Python's, and path objects become texts.

    :raises UserError: an option has a value of another type.
    """
    for field in options_of(group):
        value = plain(getattr(group, field.name))
        check_type(type(group), field, value)
        object.__setattr__(group, field.name, value)


def check_type(group: type[Any], field: dataclasses.Field[Any], value: Any) -> None:
    """:raises UserError: ``value`` is not of the type of a dataclass' option."""
    hint = accepted(group, field)
    if not (value is None and field.default is None) and not _is_of(value, hint):
        raise UserError(f"{flag(field.name)} must be {in_words(hint)}, got {value!r:.60}")


def accepted(group: type[Any], field: dataclasses.Field[Any]) -> Any:
    """The type of the values that an option takes."""
    return field.metadata.get("accepts", _hints(group)[field.name])  # type: ignore[arg-type]  # a class is hashable


@cache
def _hints(group: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(group)


def in_words(hint: Any) -> str:
    """The values that an option of this type takes, in words."""
    kinds = typing.get_args(hint) or (hint,)
    for kind in (hint, *kinds):
        if typing.get_origin(kind) is Literal:
            return " or ".join(typing.get_args(kind))
    if {int, list[int]} <= set(kinds):
        return "epochs, such as 100,150"
    if {float, str} <= set(kinds):
        return "a number or a fraction such as 8/255"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words.get(kinds[0], "another value") if typing.get_origin(hint) is not tuple else "a text or a list of texts"


def plain(value: Any) -> Any:
    """``value`` with Python's own numbers in place of numpy's and others, and texts in place of paths."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_of(value: Any, hint: Any) -> bool:
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, UnionType):
        return any(_is_of(value, part) for part in parts)
    if kind is Literal:
        return isinstance(value, str) and value in parts
    if kind in (list, tuple):  # of texts; one text stands for a list of one
        return (parts[0] is str and isinstance(value, str)) or (
            isinstance(value, list | tuple) and all(_is_of(each, parts[0]) for each in value)
        )
    if hint is float:
        return type(value) in (int, float)
    return isinstance(value, str) if hint is str else type(value) is hint


class Configuration(Protocol):
    """A dataclass of options."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def to_json(self) -> dict[str, Any]:
        """Plain values by option name."""


def _against(value: Any, other: Any) -> str:
    """``value`` in words that differ from those of ``other``, such as 6 and '6'."""
    return f"{value!s:.80}" if str(value)[:80] != str(other)[:80] else f"{value!r:.80}"


def differences(stored: dict[str, Any], config: Configuration) -> list[str]:
    """The differences from a stored configuration that would change the history, such as ``--seed 1 (was 0)``."""
    free = {field.name for field in dataclasses.fields(config) if field.metadata.get("free") or not field.init}
    return [
        f"{flag(name)} {_against(value, stored.get(name))} (was {_against(stored.get(name), value)})"
        for name, value in config.to_json().items()
        if name not in free and value != stored.get(name)
    ]
