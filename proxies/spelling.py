"""Proxies as they are written on a command line: a name, or one with options, ``snip(images=64, norm=train)``.

Options are the keywords of the proxy's class. Names of modules are written in brackets, with quotation marks where they
contain a dot or other signs: ``az_expressivity(modules=(stem, 'cells.0'))``.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

FORM = "snip(images=64, norm=train)"
MODULE = re.compile(r"[\w-]+(\.[\w-]+)*")  # the name of a module within a network


def base_name(text: str) -> str:
    """The proxy's name without options."""
    return text.partition("(")[0].strip()


def parsed(text: str, kind: str = "proxy", form: str = FORM) -> tuple[str, dict[str, Any]]:
    """The name, which may hold hyphens, and the options.

    Values are finite numbers, ``True``, ``False``, ``None``, words, or tuples of these. In a tuple words may be names
    of modules, such as ``cells.0``.

    :param kind, form: what it names, and an example, for the error.
    :raises ValueError: the text does not have this form.
    """
    name = base_name(text)
    if name == text.strip():
        return name, {}
    try:
        return name, _options(text.strip().replace(name, name.replace("-", "_"), 1))
    except ValueError as error:
        raise ValueError(f"cannot read the {kind} '{text}': {error}; expected a form such as {form}") from None


def _options(text: str) -> dict[str, Any]:
    """:raises ValueError: the text is wrong; the message says where."""
    if not text.endswith(")"):
        after = text.rpartition(")")[2]
        raise ValueError(f"'{after.strip()}' follows the bracket" if ")" in text else "the closing bracket is missing")
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        hint = "; a name such as 'cells.0' stands in quotation marks" if re.search(r"[A-Za-z_]\w*\.\d", text) else ""
        raise ValueError(f"the options are no list of option=value{hint}") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or "#" in text:
        raise ValueError("it is no name with options in brackets")
    if not call.args and not call.keywords:
        raise ValueError("the brackets hold no option")
    if call.args:
        raise ValueError(f"'{ast.unparse(call.args[0])}' names no option")
    options: dict[str, Any] = {}
    for each in call.keywords:
        if each.arg is None:
            raise ValueError(f"'**{ast.unparse(each.value)}' names no option")
        if each.arg in options:
            raise ValueError(f"{each.arg} stands there twice")
        try:
            options[each.arg] = _value(each.value)
        except ValueError as error:
            raise ValueError(f"{each.arg} is {ast.unparse(each.value)}, {error}") from None
    return options


def spelled(name: str, options: Mapping[str, Any]) -> str:
    """The text of a proxy with options, which are sorted by name: equal options give equal texts."""
    words = [f"{option}={_text(options[option])}" for option in sorted(options)]
    return f"{name}({', '.join(words)})" if options else name


def canonical(texts: Iterable[str]) -> tuple[str, ...]:
    """Each text as :func:`spelled` writes it.

    :raises ValueError: as :func:`parsed`.
    """
    return tuple(spelled(*parsed(text)) for text in texts)


def check_options(name: str, make: type, options: Mapping[str, Any], kind: str = "proxy") -> None:
    """:raises ValueError: the class ``make`` takes no such option, or not this type of value for it."""
    known = list(inspect.signature(make).parameters)
    owner = next(each for each in make.__mro__ if "__init__" in vars(each))
    hints = get_type_hints(owner if "__dataclass_fields__" in vars(owner) else owner.__init__) if options else {}  # type: ignore[misc]
    for option, value in options.items():
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            suggestion = f"did you mean {near[0]}? " if near else ""
            expected = f"expected one of {', '.join(known)}" if known else "it has none"
            raise ValueError(f"the {kind} {name} has no option '{option}'; {suggestion}{expected}")
        if option in hints and not _fits(value, hints[option]):  # a class may leave the type open
            raise ValueError(f"{option} of the {kind} {name} must be {_described(hints[option])}, got {_text(value)}")


def _value(node: ast.expr, *, of_several: bool = False) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _is_number(node.operand):
        return -_value(node.operand)
    if isinstance(node, ast.Tuple):
        return tuple(_value(each, of_several=True) for each in node.elts)
    if of_several and not isinstance(node, ast.Name) and MODULE.fullmatch(name := _module_name(node)):
        return name
    value = node.id if isinstance(node, ast.Name) else node.value if isinstance(node, ast.Constant) else ...
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("expected a finite number")
    if isinstance(value, str) and (not value.isidentifier() or value in ("True", "False", "None")):
        raise ValueError("expected a word; numbers, True, False and None stand without quotation marks")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("expected a number, a word, True, False, None, or several in round brackets")
    return value


def _module_name(node: ast.expr) -> str:
    """The name of a module, written with or without quotation marks; empty if it is none."""
    if isinstance(node, ast.Attribute):
        before = _module_name(node.value) if isinstance(node.value, ast.Attribute | ast.Name) else ""
        return f"{before}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' * (len(value) == 1)})"
    is_word = not isinstance(value, str) or (value.isidentifier() and value.isascii() and not keyword.iskeyword(value))
    return str(value) if is_word else repr(value)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the annotated type; True for annotations that this function does not know."""
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return value in arguments and not isinstance(value, bool)
    if kind in (Union, UnionType) or not isinstance(kind, type):
        return any(_fits(value, each) for each in arguments) if arguments else True
    if issubclass(kind, Sequence) and kind is not str:
        return isinstance(value, tuple) and all(_fits(each, argument) for each in value for argument in arguments)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _described(hint: Any) -> str:
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return " or ".join(map(str, arguments))
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a word", type(None): "None"}
    if kind in names:
        return names[kind]
    if kind not in (Union, UnionType) and isinstance(kind, type) and issubclass(kind, Sequence):
        return "words in brackets"
    return " or ".join(map(_described, arguments)) if arguments else str(hint)
