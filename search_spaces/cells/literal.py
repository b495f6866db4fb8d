"""Lists, dictionaries, texts and numbers in the notation of Python or JSON, as programs print them; never executed.

Also reads the calls that printed values hold: ``range(2, 6)``, ``np.int64(1)``, ``tensor(1, device='cuda:0')``, and
``Genotype(normal=[...], ...)`` or ``dict(...)``, which give a dictionary of their named arguments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from search_spaces.cells.genotype import GenotypeError

MOST_CHARACTERS = 100_000  # of a text; the key of a cell has about 100
MOST_NESTED = 20  # levels of brackets; a genotype has four
MOST_DIGITS = 20  # of a number
MOST_STEPS = 1000  # greatest bound of a range
BLANKS = "\\s\xa0\ufeff\u200b"  # in patterns; byte order marks and odd spaces come with pasted texts

_TOKEN = re.compile(
    rf"""(?:[{BLANKS}]|\#[^\n]*)*(?:
    (?P<text>[bur]?(?:'[^'\\\n]*'|"[^"\\\n]*"))
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)
    |(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
    |(?P<mark>\S)
    |(?P<end>\Z)
    )""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_TAIL = re.compile(rf"(?:[{BLANKS};,.'\"`)\]}}]|\x1b\[[0-9;]*m)*(?:\#[^\n]*)?")
_CONSTANTS = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}
_WRAPPER = re.compile(r"u?int(c|p|_|\d+)?|float(_|\d+)?|str_?|tensor|array|asarray|list|tuple")
_MAPPINGS = ("Genotype", "dict")
_ENDS = {"(": ")", "[": "]", "{": "}"}


def read_pasted(text: str, start: int) -> Any:
    """The value that begins at ``start``, tuples as lists; of the content of ``best.json``, the text of its genotype.

    Punctuation, a terminal's colour codes and a comment may follow it, as in a line of code or of a log.

    :raises GenotypeError: what stands there is no such value, or the text, a number or the nesting is too large; the
        message gives the character, counted from 1.
    """
    check_length(text)
    reader = _Reader(text, start)
    value = reader.value()
    if not _TAIL.fullmatch(text, reader.before):
        rest = f"{text[reader.before :]!r:.40}"
        raise GenotypeError(f"character {reader.before + 1}: found {rest} after the genotype, expected nothing")
    if isinstance(value, dict) and isinstance(value.get("genotype"), str):
        return value["genotype"]
    return value


def check_one(starts: Sequence[int]) -> None:
    """:raises GenotypeError: a text holds several genotypes, which begin at ``starts``."""
    if len(starts) > 1:
        raise GenotypeError(f"genotypes at the characters {starts[0] + 1} and {starts[1] + 1}, expected one")


def check_length(text: str) -> None:
    """:raises GenotypeError: the text is too long for a genotype."""
    if len(text) > MOST_CHARACTERS:
        raise GenotypeError(f"a text of {len(text):,} characters, expected at most {MOST_CHARACTERS:,}: {text!r:.40}")


def stripped_text(text: str) -> str:
    """``text`` without the blanks around it."""
    return re.sub(rf"\A[{BLANKS}]+|[{BLANKS}]+\Z", "", text)


class _Reader:
    """A recursive-descent parser that is one token ahead: ``kind`` and ``token``, which begins at ``at``.

    ``before`` is the position after the token that was read last.
    """

    def __init__(self, text: str, start: int):
        self._text = text
        self._after = start
        self._nested = 0
        self._next()

    def _next(self) -> None:
        self.before = self._after
        match = _TOKEN.match(self._text, self._after)
        assert match is not None and match.lastgroup is not None  # the last two groups match whatever is left
        self.kind, self.token, self.at = match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
        self._after = match.end()

    def _wrong(self, expected: str) -> NoReturn:
        found = f"found {self._text[self.at :]!r:.40}" if self.kind != "end" else "the text ends"
        raise GenotypeError(f"character {self.at + 1}: {found}, expected {expected}")

    def _take(self, mark: str, expected: str = "") -> None:
        if self.token != mark:
            self._wrong(expected or f"'{mark}'")
        self._next()

    def value(self) -> Any:
        kind, token = self.kind, self.token
        if kind == "mark" and token in _ENDS:
            return self._nested_value(self._items if token != "{" else self._pairs)
        if kind == "name" and token not in _CONSTANTS:
            return self._nested_value(self._call)
        if kind in ("mark", "end"):
            self._wrong("a list, a text or a number")
        if kind == "number" and len(token) > MOST_DIGITS:
            self._wrong(f"a number of at most {MOST_DIGITS} digits")
        self._next()
        if kind == "number":
            return int(token) if token.lstrip("+-").isdecimal() else float(token)
        return _CONSTANTS[token] if kind == "name" else token[token.index(token[-1]) + 1 : -1]

    def _nested_value(self, read: Any) -> Any:
        self._nested += 1
        if self._nested > MOST_NESTED:
            self._wrong(f"at most {MOST_NESTED} levels of brackets")
        value = read()
        self._nested -= 1
        return value

    def _items(self) -> Any:
        """A list, a tuple, or a value in parentheses."""
        mark = self.token
        end, commas, items = _ENDS[mark], 0, []
        self._next()
        while self.token != end:
            items.append(self.value())
            if self.token != end:
                self._take(",", f"',' or '{end}'")
                commas += 1
        self._next()
        return items[0] if mark == "(" and len(items) == 1 and not commas else items

    def _pairs(self) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        self._next()
        while self.token != "}":
            if self.kind != "text":
                self._wrong("a name in quotation marks")
            at, name = self.at, self.value()
            self._take(":")
            self._add(pairs, name, at)
            if self.token != "}":
                self._take(",", "',' or '}'")
        self._next()
        return pairs

    def _add(self, pairs: dict[str, Any], name: str, at: int) -> None:
        if name in pairs:
            raise GenotypeError(f"character {at + 1}: part '{name}' is there twice")
        pairs[name] = self.value()

    def _call(self) -> Any:
        kind, begin = self.token.rpartition(".")[2], self.at
        known = kind in _MAPPINGS or kind == "range" or _WRAPPER.fullmatch(kind)
        self._next()
        if not known or self.token != "(":
            self.at, self.kind = begin, "name"
            self._wrong("a list, a text or a number")
        self._next()
        values, named = self._arguments(kind in _MAPPINGS)
        if kind in _MAPPINGS:
            if values:
                raise GenotypeError(f"character {begin + 1}: an argument without a name, expected normal=[...], ...")
            return named
        if kind == "range":
            small = all(type(bound) is int and abs(bound) < MOST_STEPS for bound in values)
            if small and 1 <= len(values) <= 3 and values[2:] != [0]:
                return list(range(*values))
            raise GenotypeError(f"character {begin + 1}: range({values!r:.40}), expected one such as range(2, 6)")
        if len(values) != 1:
            raise GenotypeError(f"character {begin + 1}: {kind} of {len(values)} values, expected one")
        return values[0]

    def _arguments(self, mapping: bool) -> tuple[list[Any], dict[str, Any]]:
        """The unnamed and the named values of a call. A bare name, as in ``dtype=int64``, is left out where the call is
        no ``mapping``.
        """
        values: list[Any] = []
        named: dict[str, Any] = {}
        while self.token != ")":
            name, at = self.token, self.at
            if self.kind == "name" and re.compile(rf"[{BLANKS}]*=").match(self._text, self._after):
                self._next()
                self._next()
                if self.kind == "name" and not mapping:
                    self._next()
                else:
                    self._add(named, name, at)
            else:
                values.append(self.value())
            if self.token != ")":
                self._take(",", "',' or ')'")
        self._next()
        return values, named
