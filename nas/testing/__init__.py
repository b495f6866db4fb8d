"""Conformance suites: what a proxy, a searcher, a search space or an attack of your own must do.

Each suite is one function, which raises an AssertionError that says what is wrong; it needs no pytest::

    from nas.testing import check_proxy

    def test_my_proxy():
        check_proxy(MyProxy)

The modules of this package have the single checks as functions of their own, for those who want to run them one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import lazy_names

if TYPE_CHECKING:
    from nas.testing.attacks import check_attack
    from nas.testing.proxies import check_proxy
    from nas.testing.searchers import check_searcher
    from nas.testing.spaces import check_space

__all__ = ["check_attack", "check_proxy", "check_searcher", "check_space"]

_HOMES = {
    "check_attack": "nas.testing.attacks",
    "check_proxy": "nas.testing.proxies",
    "check_searcher": "nas.testing.searchers",
    "check_space": "nas.testing.spaces",
}
__getattr__ = lazy_names(__name__, _HOMES)
