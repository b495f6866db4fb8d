"""What all commands share: the parser, which is made from configuration dataclasses, and the exit codes."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import jsonargparse
import yaml

from nas.cli.bounds import flag
from nas.cli.fields import options_of
from nas.cli.printing import complain, discard_output, print_any_character
from nas.errors import Stopped, UserError, unknown
from nas.files import as_path, read_text
from search_spaces.base import unknown_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
Output = TypeVar("Output", bound="DataclassInstance")
Groups = Sequence[tuple[str, type[Any]]]  # title and dataclass

USER_ERROR = 2
MOST_OPTIONS = 2**20  # bytes of a file of options
INTERRUPTED = 130


class CommandParser(jsonargparse.ArgumentParser):
    """A parser whose errors are one line that names the flag, the value given and the values expected."""

    expected: dict[str, str]  # field name -> the values that its flag takes, in words
    paths: list[str]  # names of the fields that are paths

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """The options; :raises UserError: one of them cannot be read, or a path is an empty text."""
        values = super().parse_args(*args, **options)
        for name in self.paths:
            if getattr(values, name) is not None:
                as_path(name, getattr(values, name))
        return values

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message = " ".join(message.split())
        if match := re.match(r'Parser key "(\w+)": .*?(?:Got value|Given value): (.*)', message):
            raise UserError(f"{flag(match[1])} must be {self.expected.get(match[1], 'another value')}, got {match[2]}")
        if match := re.match(r"unrecognized arguments: (--[^\s=]+)", message, re.IGNORECASE):
            raise unknown("option", match[1], [flag(name) for name in self.expected])
        if match := re.match(r"unrecognized arguments: (.*)", message, re.IGNORECASE):
            raise UserError(f"'{match[1]}' belongs to no option; a value that holds spaces goes in quotation marks")
        raise UserError(message)


def _load_yaml_or_manifest(text: str) -> Any:
    """The options in a configuration file. Of a run's manifest, this is the configuration inside it."""
    loaded = yaml.safe_load(text)
    return loaded["configuration"] if isinstance(loaded, dict) and "configuration" in loaded else loaded


def make_parser(program: str, description: str, groups: Groups) -> CommandParser:
    """A parser with one flag for every field of the dataclasses, under their titles."""
    jsonargparse.set_loader("nas", _load_yaml_or_manifest, exceptions=(yaml.YAMLError,))
    parser = CommandParser(prog=program, description=description, parser_mode="nas", allow_abbrev=False)
    parser.expected, parser.paths = {"config": "a file of options"}, []
    parser.add_argument(
        "--config",
        action=jsonargparse.ActionConfigFile,  # type: ignore[attr-defined,unused-ignore]
        help="file of options (YAML or JSON), or a run's manifest.json",
    )
    for title, group in groups:
        arguments = parser.add_argument_group(title)
        hints = typing.get_type_hints(group)
        for field in options_of(group):
            _add_field(arguments, field, hints[field.name])
            if field.metadata.get("path"):
                parser.paths.append(field.name)
            parser.expected[field.name] = _in_words(field.metadata.get("accepts", hints[field.name]))
    return parser


def _in_words(hint: Any) -> str:
    """The values that a flag of this type takes, in words."""
    kinds = typing.get_args(hint) or (hint,)
    for kind in (hint, *kinds):
        if typing.get_origin(kind) is Literal:
            return " or ".join(typing.get_args(kind))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words.get(kinds[0], "another value") if typing.get_origin(hint) is not tuple else "a text or a list of texts"


def check_config_files(argv: Sequence[str], names: Iterable[str]) -> None:
    """Check the files given by ``--config`` before they are parsed, since the parser's own errors do not name the file.

    :raises UserError: a file cannot be read, is not YAML, or holds an option that does not exist.
    """
    known = list(names)
    for before, word in zip(["", *argv], argv, strict=False):
        path = word if before == "--config" else word.removeprefix("--config=") if "=" in word else ""
        if before != "--config" and not word.startswith("--config="):
            continue
        text = read_text(as_path("config", path), MOST_OPTIONS)
        if text is None:
            raise UserError(f"--config {path}: there is no such file")
        try:
            options = _load_yaml_or_manifest(text)
        except yaml.YAMLError as error:
            raise UserError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(options, dict):
            raise UserError(f"--config {path} must hold options by name, such as 'budget: 200', got {options!r:.40}")
        for name in options:
            if name not in known:
                raise UserError(f"--config {path}: {unknown_name('option', str(name), known)}")


def _add_field(arguments: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    help_text = field.metadata["help"].replace("%", "%%")
    hint = field.metadata.get("accepts", hint)
    if hint is bool and field.default is not None:
        arguments.add_argument(flag(field.name), action="store_true", help=help_text)
        return
    if typing.get_origin(hint) is tuple:
        # str: a file may give a single text instead of a list
        arguments.add_argument(
            flag(field.name),
            type=list[str] | str | None,
            default=None if field.default is None else list(field.default),  # type: ignore[arg-type]  # one is given
            help=help_text,
            metavar=field.name.upper(),
        )
        return
    if field.default is None:  # None means: not given
        hint = hint | None
    extra = {"nargs": "?", "const": field.metadata["const"]} if "const" in field.metadata else {}
    arguments.add_argument(flag(field.name), type=hint, default=field.default, help=help_text, **extra)


def join_repeated(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """The arguments with repeated flags joined into one: ``--proxy a --proxy b`` becomes ``--proxy=["a", "b"]``."""
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
    """An object of the dataclass, with the parser's values."""
    return group(**{field.name: getattr(values, field.name) for field in options_of(group)})


def parse_options(
    argv: Sequence[str], program: str, description: str, groups: Groups, repeated: Sequence[str] = ()
) -> Any:
    """The parsed options, from which :func:`pick` makes dataclasses.

    :param groups: title and dataclass of each group of options.
    :param repeated: flags that may be given several times.
    """
    parser, words = _opened(argv, program, description, groups, repeated)
    return parser.parse_args(words)


def _opened(
    argv: Sequence[str], program: str, description: str, groups: Groups, repeated: Sequence[str]
) -> tuple[CommandParser, list[str]]:
    """The parser, and the arguments that it is to parse; the files given by ``--config`` have been checked."""
    words = join_repeated(argv, repeated)
    parser = make_parser(program, description, groups)
    check_config_files(words, parser.expected)
    return parser, words


def parse_resumable(
    argv: Sequence[str],
    program: str,
    description: str,
    groups: tuple[tuple[str, type[C]], tuple[str, type[Output]]],
    repeated: Sequence[str],
    default_out: Callable[[C], str] | None = None,
    read: Callable[[Path], dict[str, Any]] | None = None,
) -> tuple[C, Output, Path | None]:
    """Like :func:`resumable_options`, but returns the options as an object of the configuration dataclass."""
    (_, configuration), output = groups

    def make(options: dict[str, Any]) -> C:
        return configuration(**options)

    default = None if default_out is None else lambda options: default_out(make(options))
    options, chosen, path = resumable_options(
        argv, program, description, groups[:1], output, repeated, default, read, make
    )
    return make(options), chosen, path


def resumable_options(
    argv: Sequence[str],
    program: str,
    description: str,
    groups: Groups,
    output_group: tuple[str, type[Output]],
    repeated: Sequence[str],
    default_out: Callable[[dict[str, Any]], str] | None = None,
    read: Callable[[Path], dict[str, Any]] | None = None,
    check: Callable[[dict[str, Any]], object] | None = None,
) -> tuple[dict[str, Any], Output, Path | None]:
    """Parse the arguments of a command with ``--out`` and ``--resume``.

    Options of a resumed run that are not given are taken from its manifest.

    :param groups: title and dataclass of each group of the configuration's options.
    :param output_group: title and dataclass of the output options, which have ``resume`` and may have ``out``.
    :param repeated: flags that may be given several times.
    :param default_out: returns the directory to resume in for these options, if none is given.
    :param read: reads the manifest of a directory; by default that of a search.
    :param check: raises UserError if the options cannot be those of a run.
    :returns: the options by name, the output options, and the directory to resume in (None without ``--resume``).
    """
    from nas.runs.directory import read_manifest

    parser, words = _opened(argv, program, description, [*groups, output_group], repeated)
    fields = [field for _, group in groups for field in options_of(group)]

    def by_name(values: Any) -> dict[str, Any]:
        return {field.name: getattr(values, field.name) for field in fields}

    values = parser.parse_args(words)
    output = pick(output_group[1], values)
    if values.resume is None:
        return by_name(values), output, None
    out = getattr(values, "out", None)
    if values.resume and out and as_path("resume", values.resume) != as_path("out", out):
        raise UserError(f"--resume {values.resume} and --out {out} name two run directories, expected one")
    chosen = values.resume or out or (default_out(by_name(values)) if default_out else None)
    if not chosen:
        raise UserError("--resume needs the run directory: --resume DIR, or --out DIR --resume")
    path = as_path("resume", chosen)
    stored = (read or read_manifest)(path)["configuration"]
    parser.set_defaults({field.name: stored[field.name] for field in fields if field.name in stored})
    try:  # what is stored, without the options given now
        alone = by_name(parser.parse_args([]))
        if check is not None:
            check(alone)
    except UserError as error:
        raise UserError(f"{path} cannot be gone on with: its stored configuration: {error}") from None
    options = by_name(parser.parse_args(words))
    for field in fields:  # drop stored options that have no effect with the options given now
        needed, *values_needed = field.metadata.get("only_with", (None,))
        if needed and options[needed] not in values_needed:
            parser.set_defaults({field.name: field.default})
    return by_name(parser.parse_args(words)), output, path


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run ``command`` and return its exit code.

    A user's error is printed as one line on the error stream. SIGTERM acts like Ctrl-C.
    """
    print_any_character()
    previous = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, _interrupt)
    except ValueError:  # signal handlers can only be set in the main thread
        pass
    try:
        code = command(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except UserError as error:
        complain(f"error: {error}")
        return USER_ERROR
    except Stopped as error:
        complain(f"error: {error}")
        return 1
    except KeyboardInterrupt as interrupt:
        complain(str(interrupt) or "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads the output has seen enough
        discard_output()
        return 0
    except OSError as error:  # of a file: see nas.files; so this is the output
        complain(f"error: {error.filename or 'the output'} cannot be written: {error.strerror or error}")
        discard_output()
        return 1
    finally:
        try:
            signal.signal(signal.SIGTERM, previous)
        except ValueError:
            pass


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
