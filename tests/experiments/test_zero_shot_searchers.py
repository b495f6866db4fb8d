from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from experiments import zero_shot_searchers
from experiments.counted_passes import GRADIENT_FACTOR, Meter
from experiments.zero_shot_searchers import SEARCHERS, Comparison, Found, Settings, main, picture, search
from nas.executors.candidates import Candidate
from nas.searching.untrained import UntrainedNetworks
from proxies.engine.layers import count_macs
from search_spaces.cells.supernet import Supernet
from searchers.untrained_supernet import Mixture, choosable, drawn_supernet, relaxed_score

SETTINGS = Settings(
    dataset="digits", data_dir="data", image_size=None, channels=4, layers=1, ntk_images=6, supernet_images=2
)


@pytest.fixture(scope="module")
def source() -> UntrainedNetworks:
    return SETTINGS.source()


def mixing_of(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {name: each.float() / 7 for name, each in choosable(supernet).items()}


def test_counts_the_macs_of_every_pass(source: UntrainedNetworks) -> None:
    meter = Meter(source)
    given = meter.material()
    supernet = drawn_supernet(source.space, given, 0)  # type: ignore[arg-type]
    mixing = mixing_of(supernet)
    mixing["reduce"][3] = 0
    mixing["reduce"][5, 1:] = torch.eye(7)[4]  # sep_conv_5x5 alone
    network = Mixture(supernet, mixing)
    with torch.no_grad():
        relaxed_score(given, supernet, mixing, 8)
    assert meter.passes(8) == 6 + 2 * 8 and meter.passes(50) == 6 + 2 * 8 and meter.passes(3) == 9
    macs = meter.spent / meter.passes(8)
    with torch.no_grad():
        assert macs == pytest.approx(count_macs(network, given.probe_images[:1]), rel=1e-9)
    relaxed_score(given, supernet, mixing, 8)
    assert meter.spent == (1 + GRADIENT_FACTOR) * meter.passes(8) * macs


@pytest.mark.parametrize("name", SEARCHERS[:3])
def test_a_search_ends_with_its_budget(source: UntrainedNetworks, name: str) -> None:
    first = search("random", source, 2, {}, seed=0, budget=1)
    assert first.cells == 1
    found = search(name, source, 2, {}, seed=0, budget=15 * first.macs)
    assert 15 <= found.macs / first.macs < 40
    assert found.cells > 10 or name == "zero_shot_gradient"
    again = source.scorer()(Candidate(id=0, key=found.cell, genotype=source.space.parse(found.cell)))
    assert again.scores["robust"] == found.score and again.params == found.params


def comparison() -> Comparison:
    def found(score: float, params: int) -> Found:
        return Found(score=score, cell="c", params=params, macs=2_500_000_000, cells=7)

    return Comparison(
        settings=SETTINGS,
        found={name: [found(-10.0 + i, 100), found(-20.0 + i, 400)] for i, name in enumerate(SEARCHERS)},
        random_params=[100, 200, 300, 400],
    )


def test_figures_by_hand() -> None:
    compared = comparison()
    assert compared.percentiles("random") == [12.5, 87.5]
    figures = compared.figures("zero_cost_pruning")
    assert figures["score"].value == -12.0 and (figures["score"].low, figures["score"].high) == (-17.0, -7.0)
    more = figures["more_than_random"]
    assert (more.value, more.low, more.high) == (3.0, 3.0, 3.0)
    assert figures["params_percentile"].value == 50.0
    row = "| `zero_cost_pruning` | -12.0 (-17.0 to -7.0) | 3.0 (3.0 to 3.0) | 50.0 (12.5 to 87.5) | 2.5 | 7 |"
    assert row in compared.markdown()
    assert "| `random` | -15.0 (-20.0 to -10.0) | - |" in compared.markdown()


def test_the_command_writes_figures_and_a_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = comparison().found
    monkeypatch.setattr(zero_shot_searchers, "search_all", lambda *given: {n: found[n][given[-1]] for n in found})
    words = ["--dataset", "digits", "--channels", "4", "--layers", "1", "--seeds", "2", "--workers", "1"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert figures["settings"]["channels"] == 4
    assert figures["found"]["random"] == [dataclasses.asdict(each) for each in comparison().found["random"]]
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.md").read_text(encoding="utf-8").count("\n") == 2 + len(SEARCHERS)
    assert "| `random` | -15.0" in capsys.readouterr().out
    assert picture(comparison()).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "argument --seeds: expected an integer from 1 on, got '0'"),
        (["--dataset", "nothing"], "nothing"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and message in printed.err
