"""A search whose objective is a table, from the command line to the report."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nas import Search, UserError
from nas.search import main
from nas.tabular import load_table
from search_spaces import get_space
from searchers import SEARCHERS, get_searcher
from tests.nas.commands import slip, small_options, timeless
from tests.nas.tabular.synthetic import CODES, accuracies, record, write_tables

METRIC = "cifar10/autoattack"
SPACE = get_space("nasbench201")
WORDS = ["--table", "nas_robbench_201", "--metric", METRIC]

pytestmark = pytest.mark.usefixtures("own_files")


def search(data: Path, out: Path, **options: Any) -> Any:
    given = {"table": "nas_robbench_201", "metric": METRIC, "report": False, "budget": 40, **options}
    return Search(out=out, data_dir=str(data), **given)


@pytest.fixture(scope="session")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that holds some of the cells."""
    return write_tables(tmp_path_factory.mktemp("part"), accuracies(CODES[::6]))


def test_trials_are_scored_by_the_table(complete: Path, tmp_path: Path) -> None:
    result = search(complete, tmp_path / "run", budget=300).run()
    table = load_table("nas_robbench_201", complete)
    assert result.summary["ok"] == 300 and result.summary["rejected"] == 0
    for trial in result.trials:
        assert trial.scores == {METRIC: table.measured(trial.key, METRIC)}
    cost = SPACE.cost(SPACE.parse(result.best.key), table.spec_for(METRIC))
    assert (result.best.params, result.best.macs) == (cost.params, cost.macs)
    ranks = sorted((table.measured(key, METRIC) for key in table.keys), reverse=True)
    assert result.best.scores[METRIC] >= ranks[20]
    assert sum(trial.seconds for trial in result.trials) < 2


def test_the_manifest_names_the_table_instead_of_a_data_set(part: Path, tmp_path: Path) -> None:
    search(part, tmp_path / "run", budget=5).run()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    table = load_table("nas_robbench_201", part)
    assert "data" not in manifest and "proxies" not in manifest
    assert (manifest["table"]["name"], manifest["table"]["metric"]) == ("nas_robbench_201", METRIC)
    assert manifest["table"]["fingerprint"] == table.fingerprint and manifest["table"]["files"] == table.files
    configuration = manifest["configuration"]
    assert (configuration["space"], configuration["proxy"], configuration["layers"]) == ("nasbench201", [], 15)


def test_cells_that_the_table_does_not_hold_are_never_proposed(part: Path, tmp_path: Path) -> None:
    result = search(part, tmp_path / "run", budget=100).run()
    assert result.summary["ok"] == 100 and result.summary["rejected"] > 0
    table = load_table("nas_robbench_201", part)
    assert all(table.find(trial.key) for trial in result.trials)


def test_constraints_hold_as_well(part: Path, tmp_path: Path) -> None:
    result = search(part, tmp_path / "run", require=["nor_conv_3x3 <= 1"], max_params=600_000).run()
    assert all(SPACE.count(trial.genotype, "nor_conv_3x3") <= 1 for trial in result.trials)
    with pytest.raises(UserError, match="in 50 draws: nor_conv_3x3 > 6, --table nas_robbench_201"):
        search(part, tmp_path / "other", require=["nor_conv_3x3 > 6"], max_draws=50).run()


def test_resuming_gives_the_same_history_and_wants_the_same_table(part: Path, tmp_path: Path) -> None:
    whole = search(part, tmp_path / "whole").run()
    path = search(part, tmp_path / "run").run().path
    lines = (path / "trials.jsonl").read_text().splitlines(keepends=True)
    (path / "trials.jsonl").write_text("".join(lines[:17]))
    again = search(part, path, resume=True).run()
    assert [trial.key for trial in again.trials] == [trial.key for trial in whole.trials]
    with pytest.raises(UserError, match="with another table: got [0-9a-f]{16}, expected [0-9a-f]{16}"):
        search(write_tables(tmp_path / "other", accuracies(CODES[::9])), path, resume=True).run()
    with pytest.raises(UserError, match="--metric cifar10/val_acc"):
        search(part, path, resume=True, metric="cifar10/val_acc").run()


def test_what_is_printed_is_an_accuracy(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = [*WORDS, "--data-dir", str(part), "--budget", "12", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert METRIC in out and "is in percent; NAS-RobBench-201: holds " in out and "12/12" in err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "scored by a table of <em>measured</em> accuracies" in page and "of 6466 classes" in page
    assert "untrained</em>" not in page and "Tiny-RobustBench" not in page and "measured, higher is better" in page
    assert main(["--resume", str(tmp_path / "run"), "--quiet", "--no-report"]) == 0
    assert main(["--config", str(tmp_path / "run/manifest.json"), "--out", str(tmp_path / "2"), "--no-report"]) == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--table nas_robench_201", ["unknown table 'nas_robench_201'", "did you mean nas_robbench_201"]),
        ("--table nas_robbench_201", ["needs --metric, one of cifar10/val_acc, "]),
        ("--metric cifar10/pgd", ["--metric cifar10/pgd needs --table"]),
        (f"--table nas_robbench_201 --metric {METRIC}s", ["unknown metric", f"did you mean {METRIC}"]),
        (shlex.join(WORDS) + " --space darts", ["--space must be nasbench201", "got darts"]),
        (shlex.join(WORDS) + " --proxy params", ["--proxy params and --table", "expected one of them"]),
        (shlex.join(WORDS) + " --proxy robust", ["--proxy robust and --table"]),
        (shlex.join(WORDS) + " --objective params", ["--metric cifar10/autoattack and --objective params both rank"]),
        ("--table nas_robbench_201 --objective cifar10/pgd", ["unknown objective on nas_robbench_201 'cifar10/pgd'"]),
        ("--table nas_robbench_201 --objective params", ["needs --objective of its metrics, one of cifar10/val_acc"]),
        ("--table nas_robbench_201 --objective latency_ms", ["--objective latency_ms has no use with --table"]),
        (shlex.join(WORDS) + " --max-latency-ms 3", ["--max-latency-ms has no use with --table"]),
        (shlex.join(WORDS) + " --layers 3", ["--layers must be 15", "got 3"]),
        (shlex.join(WORDS) + " --channels 8", ["--channels must be 16", "got 8"]),
        (shlex.join(WORDS) + " --dataset cifar10", ["--dataset has no use with --table"]),
        (shlex.join(WORDS) + " --data-dir nowhere", ["nowhere", "published at https://tt2408.github.io"]),
        (shlex.join(WORDS) + " --max-params 1 --max-draws 9", ["--max-params 1, --table nas_robbench_201"]),
    ],
)
def test_slips_are_one_line(
    words: str, parts: list[str], part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [] if "--data-dir" in words else ["--data-dir", str(part)]
    error = slip(capsys, *shlex.split(words), *data, "--out", str(tmp_path / "run"))
    assert all(part in error for part in parts), error
    assert not (tmp_path / "run").exists()


def test_several_objectives_of_a_table(part: Path, tmp_path: Path) -> None:
    names = [METRIC, "cifar10/val_acc", "params"]
    run = search(part, tmp_path / "run", metric=None, objective=names, searcher="nsga2", budget=60, report=True)
    result, table = run.run(), load_table("nas_robbench_201", part)
    for trial in result.trials:
        measured = {name: table.measured(trial.key, name) for name in names[:2]}
        assert trial.scores == {**measured, "params": trial.params}
    assert 1 < len(result.front) < 60 and result.best in result.front
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["objectives"][0] == {"name": METRIC, "direction": "maximize", "unit": "percent"}
    assert manifest["objectives"][2] == {"name": "params", "direction": "minimize"}
    assert f"<b>{', '.join(names[:2])}</b> in percent" in (tmp_path / "run" / "report.html").read_text()


def test_the_space_of_the_table_may_be_named(part: Path, tmp_path: Path) -> None:
    assert search(part, tmp_path / "run", space="nasbench201", budget=3).run().summary["ok"] == 3


def test_a_table_of_a_few_random_cells_is_searched_by_their_sampler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = get_space("darts")
    records = []
    for seed in (1, 4, 5):
        parts = space.sample_published(seed).to_json()
        genotype = {**parts, "reduce_concate": parts["reduce_concat"]}
        records.append(record(seed, net={"aux": False, "depth": 8, "width": 16, "genotype": genotype}))
    (tmp_path / "robust_bench_seed_0.json").write_text(json.dumps(records))
    words = ["--table", "tiny_robustbench", "--metric", "cifar10/pgd", "--data-dir", str(tmp_path), "--no-report"]
    words += ["--out", str(tmp_path / "run"), "--quiet"]
    assert "--sampler published" in slip(capsys, *words)
    published = [*words, "--searcher", "random", "--sampler", "published"]
    assert "--budget must be at most 3" in slip(capsys, *published, "--budget", "4")
    assert main([*published, "--budget", "3"]) == 0
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["scores"] == {"cifar10/pgd": 45.0} and space.parse(best["genotype"]) == space.sample_published(5)


#: those that need neither images nor networks of several sizes
ASKING = [name for name in SEARCHERS if not (get_searcher(name).needs_material or get_searcher(name).multi_fidelity)]


@pytest.mark.parametrize("searcher", ASKING)
def test_every_searcher_that_needs_no_images_goes_on_identically(
    searcher: str, complete: Path, tmp_path: Path
) -> None:
    options = {"searcher": searcher, "compare": "never", **small_options(searcher, population=8, tournament=3)}
    whole, part = tmp_path / "whole", tmp_path / "part"
    search(complete, whole, **options).run()
    finished: list[int] = []

    def interrupt(trial: Any) -> None:
        finished.append(trial.id)
        if len(finished) == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(complete, part, **options).run(interrupt)
    search(complete, part, resume=True, **options).run()
    assert timeless(part) == timeless(whole) and len(timeless(whole)) == 40
