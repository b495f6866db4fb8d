"""Attacks by name, for tests of one of them."""

from __future__ import annotations

from typing import Any

from nas.attacking.base import Attack
from nas.attacking.registry import get_attack


def only_member(name: str, **options: Any) -> Attack:
    """The one member of an attack that has no others."""
    (member,) = get_attack(name, **{"classes": 10, **options}).members
    return member
