"""Conformance suites, which check that your own proxy, searcher, search space or attack keeps its contract.

Each suite is one function. It raises an AssertionError that says what is wrong, and does not need pytest::

    from nas.testing import check_proxy

    def test_my_proxy():
        check_proxy(MyProxy)

In the modules of this package, each check is also a function of its own, so that the checks can be run one by one.
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
