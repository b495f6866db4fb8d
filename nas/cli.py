"""What every command of the project shares: its parser, made from a configuration dataclass, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import jsonargparse
import yaml

from nas.config import flag
from nas.errors import SearchStopped, UserError

C = TypeVar("C")

USER_ERROR = 2
INTERRUPTED = 130


class CommandParser(jsonargparse.ArgumentParser):
    """Reports a slip in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(" ".join(message.replace("<class '", "").replace("'>", "").split()))


def _load_yaml_or_manifest(text: str) -> Any:
    """A configuration file; of a run's manifest, the configuration inside it."""
    loaded = yaml.safe_load(text)
    return loaded["configuration"] if isinstance(loaded, dict) and "configuration" in loaded else loaded


def make_parser(program: str, description: str, *groups: tuple[str, type[Any]]) -> CommandParser:
    """A parser with one flag for every field of the dataclasses, under their titles."""
    jsonargparse.set_loader("nas", _load_yaml_or_manifest, exceptions=(yaml.YAMLError,))
    parser = CommandParser(prog=program, description=description, parser_mode="nas")
    parser.add_argument(
        "--config", action=jsonargparse.ActionConfigFile, help="file of options (YAML or JSON), or a run's manifest.json"
    )
    for title, group in groups:
        arguments = parser.add_argument_group(title)
        hints = typing.get_type_hints(group)
        for field in dataclasses.fields(group):
            _add_field(arguments, field, hints[field.name])
    return parser


def _add_field(arguments: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    help_text = field.metadata["help"].replace("%", "%%")
    if hint is bool:
        arguments.add_argument(flag(field.name), action="store_true", help=help_text)
        return
    if typing.get_origin(hint) is tuple:
        arguments.add_argument(flag(field.name), type=list[str], default=list(field.default), help=help_text)
        return
    extra = {"nargs": "?", "const": field.metadata["const"]} if "const" in field.metadata else {}
    arguments.add_argument(flag(field.name), type=hint, default=field.default, help=help_text, **extra)


def join_repeated(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """Repeated flags as one: ``--proxy a --proxy b`` becomes ``--proxy=["a", "b"]``."""
    rest: list[str] = []
    values: dict[str, list[str]] = {}
    words = iter(argv)
    for word in words:
        name, separator, value = word.partition("=")
        if name not in names:
            rest.append(word)
            continue
        if not separator:
            value = next(words, "")
            if not value or value.startswith("--"):
                raise UserError(f"{name} needs a value, got {value or 'nothing'}")
        values.setdefault(name, []).extend(_as_list(value))
    return [*rest, *(f"{name}={json.dumps(each)}" for name, each in values.items())]


def _as_list(value: str) -> list[str]:
    if value.startswith("["):
        try:
            return [str(each) for each in json.loads(value)]
        except json.JSONDecodeError:
            pass
    return [value]


def pick(group: type[C], values: Any) -> C:
    """The dataclass from the parser's values."""
    return group(**{field.name: getattr(values, field.name) for field in dataclasses.fields(group)})  # type: ignore[arg-type]


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """The exit code of ``command``; a user's slip is one line on the error stream, SIGTERM acts as Ctrl-C."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, _interrupt)
    except ValueError:  # not the main thread
        pass
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except SearchStopped as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    finally:
        try:
            signal.signal(signal.SIGTERM, previous)
        except ValueError:
            pass


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
