"""Attacks by name, for tests of one of them."""

from __future__ import annotations

from typing import Any

from nas.attacking.settings import Member, make_attack


def only_member(name: str, **options: Any) -> Member:
    """The one member of an attack that has no others."""
    (member,) = make_attack(name, **{"classes": 10, **options}).members
    return member
