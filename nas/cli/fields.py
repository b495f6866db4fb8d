"""The fields of configuration dataclasses, and the differences between two configurations."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

from nas.cli.bounds import flag


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A field of a configuration, with its help text and other metadata for the command line."""
    return dataclasses.field(default=default, metadata={"help": help, **metadata})


def path_option(default: str | None, help: str, **metadata: Any) -> Any:
    """An option that names a file or a folder; :func:`nas.files.as_path` makes a path of its value."""
    return option(default, help, path=True, **metadata)


def options_of(group: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that are options: those that ``__init__`` takes and that have a help text."""
    return [field for field in dataclasses.fields(group) if field.init and "help" in field.metadata]


class Configuration(Protocol):
    """A dataclass of options."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def to_json(self) -> dict[str, Any]:
        """Plain values by option name."""


def differences(stored: dict[str, Any], config: Configuration) -> list[str]:
    """The differences from a stored configuration that would change the history, such as ``--seed 1 (was 0)``."""
    free = {field.name for field in dataclasses.fields(config) if field.metadata.get("free") or not field.init}
    return [
        f"{flag(name)} {value} (was {stored.get(name)})"
        for name, value in config.to_json().items()
        if name not in free and value != stored.get(name)
    ]
