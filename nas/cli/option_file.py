"""Files of options, which ``--config`` names: YAML, JSON, or a run's ``manifest.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field
from typing import Any

import yaml

from nas.cli.bounds import flag
from nas.cli.fields import accepted, check_type, plain
from nas.errors import UserError
from nas.files import as_path, read_text
from search_spaces.base import unknown_name

MOST_OPTIONS = 2**20  # bytes of a file
MOST_VALUES = 5000  # in a file
MOST_NESTED = 20  # levels; a manifest has four
_EXPONENT = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,20})?[eE]\+?[0-9]{1,2}")

#: name of an option -> the dataclass that declares it, and its field
Options = Mapping[str, tuple[type[Any], Field[Any]]]


class _Loader(yaml.SafeLoader):
    """Refuses what a file of options does not need: keys given twice, references, and deep nesting."""

    depth = 0
    values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("a reference", event)
        self.depth += 1
        self.values += 1
        if self.depth > MOST_NESTED or self.values > MOST_VALUES:
            raise _refused(f"more than {MOST_NESTED} levels of nesting or {MOST_VALUES:,} values", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                raise _refused(f"'{key.value:.60}' is there twice", key)
            names.add(str(key.value))
        return super().construct_mapping(node, deep)


def _refused(problem: str, where: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def load(text: str) -> Any:
    """The value of a text in YAML.

    :raises yaml.YAMLError: it is none, or holds what no file of options needs.
    """
    try:
        return yaml.load(text, _Loader)
    except ValueError as error:  # such as a number with thousands of digits, or the 31st of February
        raise yaml.YAMLError(str(error)) from None


def whole(value: Any) -> Any:
    """A whole number that is written with an exponent, such as ``3.5e5``, as an ``int``; any other value as it is."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_options(path: str, known: Options) -> dict[str, Any]:
    """The options in a file, by name.

    :raises UserError: the file cannot be read, is not YAML, or holds an option that does not exist or whose value is of
        another type.
    """
    text = read_text(as_path("config", path), MOST_OPTIONS)
    if text is None:
        raise UserError(f"--config {path}: there is no such file")
    try:
        options = load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--config {path} is not YAML: {_where(error)}") from None
    if isinstance(options, dict) and "configuration" in options:
        options = options["configuration"]
    if not isinstance(options, dict):
        raise UserError(f"--config {path} must hold options by name, such as 'budget: 200', got {options!r:.40}")
    for name, value in options.items():
        if name not in known:
            raise UserError(f"--config {path}: {unknown_name('option', str(name), known)}")
        group, field = known[name]
        options[name] = whole(value) if takes_whole_numbers(group, field) else plain(value)
        try:
            check_type(group, field, options[name])
        except UserError as error:
            raise UserError(f"--config {path}: {error}") from None
    return options


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{' '.join(str(error).split()):.200}"
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None)}"


def takes_whole_numbers(group: type[Any], field: Field[Any]) -> bool:
    """Whether an option's value is a whole number."""
    return accepted(group, field) in (int, int | None)


def with_whole_numbers(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The arguments of a command, where whole numbers written with an exponent are written without it."""
    read, before = [], ""
    for word in words:
        name, separator, value = word.partition("=")
        if before in flags:
            word = str(whole(word))
        elif separator and name in flags:
            word = f"{name}={whole(value)}"
        read.append(word)
        before = word
    return read


def with_file_contents(words: Sequence[str], known: Options) -> tuple[list[str], dict[str, str]]:
    """The arguments of a command with the content of each file, as JSON, in place of its name after ``--config``.

    :returns: the arguments; and for each option that a file gives and no argument does, the file's name.
    :raises UserError: as :func:`read_options`.
    """
    read: list[str] = []
    origins: dict[str, str] = {}
    given = {word.partition("=")[0] for word in words}
    following = iter(words)
    for word in following:
        name, separator, path = word.partition("=")
        if name == "--config":
            path = path if separator else next(following, "")
            options = read_options(path, known)
            origins |= {each: path for each in options if flag(each) not in given}
            word = f"--config={json.dumps(options)}"
        read.append(word)
    return read, origins
