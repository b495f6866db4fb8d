"""Arguments of a search that are no options: parts given as objects in place of names, and switches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.errors import UserError


def check_parts(proxies: Any, executor: Any, **switches: Any) -> None:
    """:raises UserError: they are neither names nor objects of the right kinds, or the switches no booleans."""
    from nas.executors.base import Executor
    from proxies.base import Proxy
    from proxies.population import PopulationProxy

    given = proxies if isinstance(proxies, Sequence) and not isinstance(proxies, str) else (proxies,)
    for each in () if proxies is None else given:
        if not isinstance(each, str | Proxy | PopulationProxy) or not isinstance(getattr(each, "name", ""), str):
            raise UserError(f"a proxy must be a name or a Proxy object with a name, got {each!r:.60}")
    if not isinstance(executor, str | Executor):
        raise UserError(f"executor must be a name or an Executor object, got {executor!r:.60}")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise UserError(f"{name} must be true or false, got {value!r:.60}")
