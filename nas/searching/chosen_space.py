"""Which search space a search is in, and the size of its networks."""

from __future__ import annotations

from typing import Any

from nas.cli.bounds import flag
from nas.errors import UserError
from nas.spaces import check_space, known_space
from search_spaces.base import SearchSpace


def default_space(table: str | None) -> str:
    """The space of a search that names none: the space of its table, or ``darts`` if it has no table.

    :raises UserError: an unknown table.
    """
    if table is None:
        return "darts"
    if not isinstance(table, str):
        raise UserError(f"--table must be a name, got {table!r:.60}")
    from nas.tabular import find_benchmark

    return find_benchmark(table).space


def find_space(space: str | SearchSpace[Any] | None, table: str | None) -> SearchSpace[Any]:
    """The space object: ``space`` itself, the space of that name, or the default space if ``space`` is None.

    :raises UserError: an unknown name.
    """
    if space is None or isinstance(space, str):
        return known_space(space or default_space(table))
    return check_space(space)


def network_size(space: SearchSpace[Any], options: dict[str, Any]) -> dict[str, int | None]:
    """``channels`` and ``layers`` from ``options``, or the defaults of the space, or of the table of ``options``.

    :raises UserError: one of them is given, but networks of the space have no such number.
    """
    size = {"channels": space.default_channels, "layers": space.default_layers}
    if isinstance(table := options.get("table"), str):
        from nas.tabular import find_benchmark

        size["channels"] = find_benchmark(table).channels or size["channels"]
    for name, default in size.items():
        given = options.get(name)
        if given is not None and default is None:
            raise UserError(f"{flag(name)} has no use with the space {space.name}, whose networks have no such number")
        size[name] = default if given is None else given
    return size
