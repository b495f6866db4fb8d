"""Proxies as they are written on a command line: a name, or a name with options, ``grad_norm(images=64, norm=eval)``."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any


def base_name(text: str) -> str:
    """The proxy's name without options."""
    return text.partition("(")[0].strip()


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the options; values are numbers, ``True``, ``False``, ``None``, tuples, or words.

    :raises ValueError: the text is of no such form.
    """
    name = base_name(text)
    if name == text.strip():
        return name, {}
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        options = {keyword.arg: _value(keyword.value) for keyword in call.keywords}
        if not options or None in options:
            raise ValueError
    except (SyntaxError, ValueError):
        raise ValueError(
            f"'{text}' is no proxy with options, expected a form such as grad_norm(images=64, norm=eval)"
        ) from None
    return name, {str(option): value for option, value in options.items()}


def spelled(name: str, options: Mapping[str, Any]) -> str:
    """The same text for the same options, in the order in which they were given."""
    return f"{name}({', '.join(f'{option}={value}' for option, value in options.items())})" if options else name


def canonical(texts: Iterable[str]) -> tuple[str, ...]:
    """Each as :func:`spelled`.

    :raises ValueError: as :func:`parsed`.
    """
    return tuple(spelled(*parsed(text)) for text in texts)


def check_options(name: str, make: type, options: Mapping[str, Any]) -> None:
    """:raises ValueError: ``make`` takes no such option."""
    known = list(inspect.signature(make).parameters)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            expected = f"expected one of {', '.join(known)}" if known else "it has none"
            raise ValueError(f"the proxy {name} has no option '{option}'; {hint}{expected}")


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
