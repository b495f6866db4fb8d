"""Formats numbers and findings for readers: rounded, with units, and with an explanation."""

from __future__ import annotations

import json
import math
import shlex
from typing import Any

from nas.cli.bounds import flag
from nas.report.ranking import Correlation
from nas.runs.reader import RunRecord

SECONDS_A_DAY = 86_400


def duration(seconds: float) -> str:
    """A time in its two largest units, such as ``24 min 47 s``; below a minute in seconds."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, small, length, part in (("d", "h", 86_400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // part} {small}"
    raise AssertionError("not reached: at least a minute")


def amount(count: int) -> str:
    """A count with three significant digits and a unit, such as ``3.43 M``; 0 means that it was not recorded."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:#.3g}".rstrip(".") + f"\N{NO-BREAK SPACE}{unit}"
    return str(count) if count else "not recorded"


def score(value: float) -> str:
    """A score with five significant digits, or, if it is very large or small, with four and an exponent."""
    text = f"{value:#.5g}".rstrip(".") if value == 0 or 1e-4 <= abs(value) < 1e6 else f"{value:.3e}".replace("e+", "e")
    return text.replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """A correlation with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def setting(value: Any) -> str:
    """A value of the configuration as text."""
    if value is None:
        return "none"
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value) if isinstance(value, list | dict | bool) else str(value)


def command(record: RunRecord) -> str:
    """The shell command that repeats the run; settings that are None or false are defaults and are left out."""
    words = ["python", "-m", f"nas.{record.manifest.get('command', 'search')}"]
    for name, value in record.section("configuration").items():
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                words.append(flag(name))
            elif each is not None and each is not False:
                text = each if isinstance(each, str) else json.dumps(each)
                words += [f"{flag(name)}={text}"] if text.startswith("-") else [flag(name), text]
    return shlex.join(words)


def search_cost(record: RunRecord) -> tuple[str, str]:
    """The sum of the scoring times of all candidates in days, and its unit: ``("0.0172", "GPU-days")``."""
    seconds = sum(trial.seconds for trial in record.trials)
    days = seconds / SECONDS_A_DAY
    text = f"{days:#.3g}" if days >= 1e-3 else f"{days:.5f}"
    return (text.rstrip(".") if days else "0"), f"{_processor(record)}-days"


def _processor(record: RunRecord) -> str:
    device = record.section("hardware").get("device") or record.section("configuration").get("device")
    return "GPU" if str(device).startswith("cuda") else "CPU"


def size_finding(correlation: Correlation | None, size: str) -> str:
    """The meaning of a correlation between score and size, in a sentence or two."""
    if correlation is None:
        return f"Not defined: too few candidates, or all of equal score or equal {size}."
    pairs = round(50 * (1 + abs(correlation.tau)))
    if correlation.low <= 0 <= correlation.high:
        return f"No clear link: the interval holds zero, so the score may say nothing about {size} here."
    direction = "larger" if correlation.tau > 0 else "smaller"
    few = " Few candidates: the interval itself is rough." if correlation.count < 30 else ""
    return f"The {direction} of two candidates is judged better in about {pairs} of 100 pairs.{few}"


def finite(value: Any) -> float | None:
    """A value of the manifest as a float, or None if it is not a finite number of at least 0."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if usable else None
