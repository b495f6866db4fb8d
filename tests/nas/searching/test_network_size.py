"""Channels and layers: the space's own unless given; a space whose networks have no such numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import search_spaces
from nas import Search, SearchConfig, UserError
from nas.report import write_report
from nas.search import main
from search_spaces.base import Cost, NetworkSpec
from tests.nas.commands import slip
from tests.searchers.toy_space import Digits, ToySpace

pytestmark = pytest.mark.usefixtures("somewhere_else")


class WidthSpace(ToySpace):
    """Digits that are the widths of the layers of a linear network: there is no other size."""

    name = "widths"
    default_channels = None
    default_layers = None

    def cost(self, genotype: Digits, spec: NetworkSpec) -> Cost:
        assert spec.channels is None and spec.layers is None
        return Cost(params=sum(genotype), macs=100 * sum(genotype))

    def build(self, genotype: Digits, spec: NetworkSpec) -> nn.Module:
        assert spec.channels is None and spec.layers is None
        widths = [spec.image_channels * spec.image_size[0] * spec.image_size[1], *(digit + 1 for digit in genotype)]
        layers = [nn.Linear(a, b) for a, b in zip(widths, [*widths[1:], spec.classes], strict=True)]
        return nn.Sequential(nn.Flatten(), *layers)


class NarrowSpace(WidthSpace):
    """Has channels of its own, and no layers."""

    default_channels = 3

    def cost(self, genotype: Digits, spec: NetworkSpec) -> Cost:
        assert spec.channels is not None and spec.layers is None
        return Cost(params=spec.channels * sum(genotype), macs=0)


@pytest.mark.parametrize(("space", "size"), [("darts", (16, 8)), ("nasbench201", (16, 15))])
def test_the_size_that_is_not_given_is_the_space_s_own(space: str, size: tuple[int, int]) -> None:
    config = SearchConfig.of(space)
    assert (config.channels, config.layers) == size
    config = SearchConfig.of(space, channels=4, layers=3)
    assert (config.channels, config.layers) == (4, 3)
    assert Search(space).config.to_json()["channels"] == 16


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search_spaces.SPACES, "widths", WidthSpace)


WORDS = ["--space", "widths", "--searcher", "random", "--budget", "6", "--proxy", "grad_norm", "--threads", "1"]


@pytest.mark.usefixtures("_registered")
def test_a_space_without_sizes_from_search_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "best of 6 widths cells" in out and "parameters and MACs at" not in out and "None" not in out
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["configuration"]["channels"] is None and manifest["configuration"]["layers"] is None
    assert manifest["summary"]["ok"] == 6
    page = write_report(Path("run")).read_text()
    assert "--space widths" in page and "--channels" not in page and "--layers" not in page
    before = Path("run/best.json").read_bytes()
    Path("run/trials.jsonl").write_text(Path("run/trials.jsonl").read_text().splitlines(keepends=True)[0])
    assert main(["--resume", "run", "--quiet"]) == 0
    assert Path("run/best.json").read_bytes() == before
    assert main(["--config", "run/manifest.json", "--quiet", "--out", "again"]) == 0
    assert Path("again/best.json").read_bytes() == before


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("name", ["channels", "layers"])
def test_a_size_that_the_space_has_no_use_for_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = f"--{name} has no use with the space widths, whose networks have no such number"
    assert message in slip(capsys, *WORDS, f"--{name}", "4")
    options: dict[str, Any] = {name: 4}
    with pytest.raises(UserError, match=message):
        Search(WidthSpace(), **options)


def test_a_space_may_have_one_of_the_two() -> None:
    result = Search(NarrowSpace(), "random", "params", budget=3, out="run", threads=1).run()
    configuration = json.loads(Path("run/manifest.json").read_text())["configuration"]
    assert (configuration["channels"], configuration["layers"]) == (3, None)
    assert result.best.params == 3 * sum(result.best.genotype)


def test_what_is_printed_names_the_numbers_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--searcher", "random", "--budget", "2", "--proxy", "params", "--no-report"]
    assert main([*words, "--channels", "4", "--layers", "5", "--out", "run"]) == 0
    assert "parameters and MACs at 4 channels, 5 layers" in capsys.readouterr().out
