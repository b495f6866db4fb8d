"""What the configuration of a search says to its proxies."""

from __future__ import annotations

from pathlib import Path

import pytest

import proxies
from nas import Search, SearchConfig
from nas.searching.untrained import proxy_options
from proxies.az_nas import AzNas
from proxies.base import Probe, Proxy
from proxies.robust import Robust
from proxies.robust_released import RobustReleased
from proxies.snip import Snip

LIMITS = SearchConfig(ntk_images=12, curvature_images=3)


class TakesOne(Proxy):
    """Has one of the options, and a name that says nothing of it."""

    name = "one"
    direction = "maximize"
    cost = "count"

    def __init__(self, ntk_images: int = 5):
        self.ntk_images = ntk_images

    def score(self, probe: Probe) -> float:
        return float(self.ntk_images * probe.params)


class TakesNone(Proxy):
    name = "robust_without_options"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        return float(probe.params)


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (TakesOne, TakesNone):
        monkeypatch.setitem(proxies.MODULES, kind.name, (__name__, kind.__name__))


def test_a_proxy_is_told_what_its_class_takes() -> None:
    both = {"ntk_images": 12, "curvature_images": 3}
    assert proxy_options(Robust, LIMITS) == proxy_options(RobustReleased, LIMITS) == both
    assert proxy_options(TakesOne, LIMITS) == {"ntk_images": 12}
    for kind in (TakesNone, Snip, AzNas):
        assert proxy_options(kind, LIMITS) == {}


@pytest.mark.usefixtures("_registered")
def test_what_the_spelling_names_goes_before_the_configuration(tmp_path: Path) -> None:
    names = ["one", "one(ntk_images=4)", "robust_without_options"]
    options = {"budget": 1, "report": False, "channels": 2, "layers": 2, "ntk_images": 12}
    result = Search("darts", "random", names, out=tmp_path / "run", **options).run()
    ratios = [result.best.scores[name] / result.best.params for name in names]
    assert ratios == [12, 4, 1]
