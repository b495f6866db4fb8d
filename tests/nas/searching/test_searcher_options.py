"""The options of the searchers as flags of the command, entries of a file, and keywords in Python."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import searchers
from nas import Search, SearchConfig, UserError
from nas.search import main
from nas.searching.searcher_options import all_options, options_group
from searchers import get_searcher
from searchers.base import Searcher
from searchers.random_search import RandomSearch
from searchers.regularized_evolution import RegularizedEvolution
from tests.nas.commands import slip
from tests.nas.searching.runs import COUNT
from tests.searchers.toy_space import ToySpace

pytestmark = pytest.mark.usefixtures("somewhere_else")

EVOLUTION = [*COUNT, "--searcher", "regularized_evolution"]  # the last flag counts


def configuration(path: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(Path(path, "manifest.json").read_text())["configuration"]
    return values


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*COUNT, "--population", "50"], "--population 50 needs --searcher regularized_evolution or nsga2, got random"),
        ([*COUNT, "--max-mutations=2"], "--max-mutations 2 needs --searcher regularized_evolution or nsga2, got"),
        ([*EVOLUTION, "--sampler", "published"], "--sampler published needs --searcher random"),
        ([*EVOLUTION, "--sampler", "uniform"], "--sampler uniform needs --searcher random"),
        ([*EVOLUTION, "--tournament", "5", "--population", "4"], "--tournament must be at most the --population"),
        ([*EVOLUTION, "--population", "many"], "--population must be a whole number, got many"),
        ([*EVOLUTION, "--max-mutations", "-1"], "--max-mutations must be at least 0, got -1"),
    ],
)
def test_what_the_searcher_has_no_use_for_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in slip(capsys, *words)
    assert not Path("runs").exists()


def test_it_is_refused_from_a_file_and_from_python_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("searcher: random\npopulation: 50\n")
    message = "--population 50 needs --searcher regularized_evolution or nsga2, got random"
    assert message in slip(capsys, "--config", "run.yaml", "--quiet")
    for make in (Search, SearchConfig.of):
        with pytest.raises(UserError, match=message):
            make(searcher="random", population=50)
        with pytest.raises(UserError, match="--population must be a whole number, got 'many'"):
            make(population="many")


def test_the_manifest_holds_the_options_of_the_chosen_searcher_alone() -> None:
    assert main([*COUNT, "--out", "random"]) == 0
    assert main([*EVOLUTION, "--out", "evolution", "--population", "4", "--tournament", "2"]) == 0
    for run, own in (
        ("random", {"sampler": "uniform"}), ("evolution", {"population": 4, "tournament": 2, "max_mutations": 10}),
    ):  # fmt: skip
        assert {name: value for name, value in configuration(run).items() if name in all_options()} == own
    assert "sampler" not in configuration("evolution")


def test_a_manifest_is_a_configuration_and_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--population", "4", "--tournament", "2", "--max-mutations", "3"]
    assert main([*EVOLUTION, *own, "--out", "run"]) == 0
    assert main(["--config", "run/manifest.json", "--no-report", "--quiet", "--out", "again"]) == 0
    assert configuration("again") == configuration("run") and configuration("again")["max_mutations"] == 3
    capsys.readouterr()
    lines = Path("run/trials.jsonl").read_text().splitlines(keepends=True)
    Path("run/trials.jsonl").write_text("".join(lines[:5]))
    assert main(["--resume", "run", "--no-report", "--quiet"]) == 0
    assert configuration("run") == configuration("again")
    assert Path("run/best.json").read_text() == Path("again/best.json").read_text()


def test_resumed_with_another_option_or_searcher_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVOLUTION, "--out", "run", "--population", "4", "--tournament", "2"]) == 0
    capsys.readouterr()
    assert "another configuration: --tournament 3 (was 2)" in slip(capsys, "--resume", "run", "--tournament", "3")
    error = slip(capsys, "--resume", "run", "--searcher", "random")
    assert "another configuration: --searcher random (was regularized_evolution)" in error


def test_an_unknown_option_in_python_is_answered_with_the_nearest() -> None:
    for make in (Search, SearchConfig.of):
        with pytest.raises(UserError, match=r"unknown option 'chanels'; did you mean channels\b"):
            make(chanels=4)
        with pytest.raises(UserError, match=r"unknown option 'tournement'; did you mean tournament\?"):
            make(tournement=4)


def test_every_option_of_every_searcher_is_a_flag_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert set(all_options()) >= {"sampler", "population", "tournament", "max_mutations", "order", "gumbel"}
    for name, owners in all_options().items():
        assert f"--{name.replace('_', '-')} " in shown
        for owner in owners:
            declared = get_searcher(owner).Options.__dataclass_fields__[name]
            assert declared.metadata["help"] in shown and f"(default: {declared.default})" in shown


class Shared(RandomSearch[Any]):
    """Has an option of another searcher's name, with a default of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Options(RandomSearch.Options):
        population: int = field(default=7, metadata={"help": "as arranged"})


class Clashing(RandomSearch[Any]):
    @dataclass(frozen=True, kw_only=True)
    class Options(RandomSearch.Options):
        population: str = field(default="none", metadata={"help": "as arranged"})


def test_an_option_that_several_searchers_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(searchers.SEARCHERS, "shared", (__name__, "Shared"))
    assert all_options()["population"] == ("regularized_evolution", "nsga2", "shared")
    assert all_options()["sampler"] == ("random", "shared")
    assert SearchConfig.of(searcher="shared").searcher_options == Shared.Options(population=7)
    assert SearchConfig.of(searcher="shared", population=3).searcher_options == Shared.Options(population=3)
    assert SearchConfig.of().searcher_options == RegularizedEvolution.Options(population=50)
    with pytest.raises(UserError, match="needs --searcher regularized_evolution or nsga2 or shared, got random"):
        SearchConfig.of(searcher="random", population=3)
    monkeypatch.setitem(searchers.SEARCHERS, "clashing", (__name__, "Clashing"))
    with pytest.raises(TypeError, match="the option population must be of one type"):
        options_group()


def test_options_of_another_searcher_are_no_options() -> None:
    with pytest.raises(TypeError, match=r"options must be RandomSearch\.Options, got RegularizedEvolution\.Options"):
        RandomSearch(ToySpace(), seed=0, objectives=Any, options=RegularizedEvolution.Options())  # type: ignore


def test_a_searcher_has_no_options_unless_it_says_so() -> None:
    assert Searcher.Options() == Searcher.Options() and not Searcher.Options.__dataclass_fields__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"searcher": "darts", "partial_channels": 3, "channels": 4},
            "--channels must be a multiple of 6 with --partial-channels 3, got 4",
        ),
        ({"searcher": "darts", "gumbel": 0.01}, "--gumbel must be at least 0.1, got 0.01"),
        ({"searcher": "darts", "learning_rate": 0}, "--learning-rate must be at least 1e-12, got 0"),
        ({"start": 5}, r"--start must be a text or a list of texts, got \[5\]"),
        ({"start": [None]}, r"--start must be a text or a list of texts, got \[None\]"),
        (
            {"start": ["ROBUST_ZCP", "DARTS_V2"], "max_params": 10},
            "--start, cell 1 of 2, violates a constraint: params must be at most 10, got ",
        ),
        ({"objective": "foo"}, r"one of (?!.*\bparams\b.*\bparams\b).*\bparams\b"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_directory_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Search("darts", budget=2, layers=3, report=False, out="run", **options).run()
    assert not Path("run").exists()
