"""What a proxy raises in place of a score."""

from __future__ import annotations


class ProxyError(ValueError):
    """A network that this proxy has no finite value for, and why."""
