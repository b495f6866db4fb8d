"""The error that a proxy raises in place of a score."""

from __future__ import annotations


class ProxyError(ValueError):
    """The network has no finite value by this proxy; the message says why."""
