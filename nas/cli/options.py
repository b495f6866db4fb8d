"""What all commands share: the parser, which is made from configuration dataclasses."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import jsonargparse
import yaml

from nas.cli.bounds import flag
from nas.cli.fields import accepted, check_types, in_words, options_of
from nas.cli.option_file import load, takes_whole_numbers, with_file_contents, with_whole_numbers
from nas.errors import UserError, unknown
from nas.files import as_path

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
Output = TypeVar("Output", bound="DataclassInstance")
Groups = Sequence[tuple[str, type[Any]]]  # title and dataclass



class CommandParser(jsonargparse.ArgumentParser):
    """A parser whose errors are one line that names the flag, the value given and the values expected."""

    expected: dict[str, str]  # field name -> the values that its flag takes, in words
    paths: list[str]  # names of the fields that are paths
    known: dict[str, tuple[type[Any], dataclasses.Field[Any]]]  # the dataclass and the field of each name
    origins: dict[str, str]  # for each option that only a file gives, the file

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """The options.

        :raises UserError: one of them cannot be read, has no effect but is in a file, or a path is an empty text.
        """
        values = super().parse_args(*args, **options)
        self._check_origins(values)
        for name in self.paths:
            if getattr(values, name) is not None:
                as_path(name, getattr(values, name))
        return values

    def _check_origins(self, values: Any) -> None:
        """:raises UserError: a file gives an option that has no effect with the value of another one."""
        for name, path in self.origins.items():
            field = self.known[name][1]
            needed, *accepting = field.metadata.get("only_with", (None,))
            value = getattr(values, name)
            if needed and getattr(values, needed) not in accepting and value != field.default:
                raise UserError(
                    f"--config {path}: {flag(name)} {value} needs {flag(needed)} {' or '.join(accepting)},"
                    f" got {getattr(values, needed)}; take it out of the file"
                )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message = " ".join(message.split())
        if match := re.match(r'Parser key "(\w+)": .*(?:Got value|Given value): (.*)', message):
            expected = self.expected.get(match[1], "another value")
            raise UserError(f"{flag(match[1])} must be {expected}, got {match[2]:.60}")
        if match := re.match(r'Parser key "(\w+)": (.*)', message):
            raise UserError(f"{flag(match[1])} must be {self.expected.get(match[1], 'another value')}: {match[2]:.80}")
        if match := re.match(r"argument (--[\w-]+): ignored explicit argument (.*)", message):
            raise UserError(f"{match[1]} takes no value, got {match[2]:.60}")
        if match := re.match(r"unrecognized arguments: (--[^\s=]+)", message, re.IGNORECASE):
            raise unknown("option", match[1], [flag(name) for name in self.expected])
        if match := re.match(r"unrecognized arguments: (.*)", message, re.IGNORECASE):
            raise UserError(f"'{match[1]}' belongs to no option; a value that holds spaces goes in quotation marks")
        raise UserError(message)


def make_parser(program: str, description: str, groups: Groups) -> CommandParser:
    """A parser with one flag for every field of the dataclasses, under their titles."""
    jsonargparse.set_loader("nas", load, exceptions=(yaml.YAMLError,))
    parser = CommandParser(prog=program, description=description, parser_mode="nas", allow_abbrev=False)
    parser.expected, parser.paths, parser.known = {"config": "a file of options"}, [], {}
    parser.add_argument(
        "--config",
        action=jsonargparse.ActionConfigFile,  # type: ignore[attr-defined,unused-ignore]
        help="file of options (YAML or JSON), or a run's manifest.json",
    )
    for title, group in groups:
        arguments = parser.add_argument_group(title)
        for field in options_of(group):
            hint = accepted(group, field)
            _add_field(arguments, field, hint)
            parser.known[field.name] = group, field
            if field.metadata.get("path"):
                parser.paths.append(field.name)
            parser.expected[field.name] = in_words(hint)
    return parser


def _add_field(arguments: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    help_text = field.metadata["help"].replace("%", "%%")
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
    """An object of the dataclass, with the parser's values; :raises UserError: one is of another type."""
    made = group(**{field.name: getattr(values, field.name) for field in options_of(group)})
    check_types(made)
    return made


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
    """The parser, and the arguments that it is to parse, with the content of files in place of their names."""
    parser = make_parser(program, description, groups)
    words, parser.origins = with_file_contents(join_repeated(argv, repeated), parser.known)
    return parser, with_whole_numbers(
        words, [flag(name) for name, option in parser.known.items() if takes_whole_numbers(*option)]
    )


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
