"""The engine: candidates, scores, the best cell.

``Search`` runs a search, ``load`` gives a trained model; importing this package imports neither torch nor anything else
heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import lazy_names

if TYPE_CHECKING:
    from nas.errors import SearchStopped, UserError
    from nas.models.checkpoint import load
    from nas.searching.config import SearchConfig
    from nas.searching.search import Search, SearchResult

__version__ = "0.1.0"
__all__ = ["Search", "SearchConfig", "SearchResult", "SearchStopped", "UserError", "load"]

_HOMES = {
    "Search": "nas.searching.search",
    "SearchResult": "nas.searching.search",
    "SearchConfig": "nas.searching.config",
    "UserError": "nas.errors",
    "SearchStopped": "nas.errors",
    "load": "nas.models.checkpoint",
}
__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
