from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import UserError
from nas.tabular import load_table
from nas.tabular.base import Table
from search_spaces import get_space
from tests.nas.tabular.synthetic import CODES, COLUMNS, accuracies, row, write_tables

SPACE = get_space("nasbench201")
FILE = "NAS-RobBench-201_html.json"
FEW = accuracies(["333133", "323133", "123411", "142311", "000030"])  # the third and fourth are isomorphic
ID = {code: str(int(code, 5)) for code in CODES}

pytestmark = pytest.mark.usefixtures("own_files")


def load(folder: Path) -> Table:
    return load_table("nas_robbench_201", folder)


def test_entries_are_classes_in_percent(tmp_path: Path) -> None:
    table = load(write_tables(tmp_path, FEW))
    assert [entry.id for entry in table.entries] == [ID[c] for c in ("000030", "123411", "323133", "333133")]
    assert table.metrics == tuple(column.replace("#", "/") for column in COLUMNS)
    entry = table.entry(ID["333133"])
    assert entry.genotype == str(SPACE.parse("333133")) and entry.key == SPACE.canonical(SPACE.parse("333133"))
    assert entry.values == tuple(round(100 * value, 4) for value in row("333133"))
    assert table.values("cifar10/autoattack").shape == (4,)
    assert "holds 4 of 6466 classes" in table.description


def test_lookup_by_any_member_and_by_key(tmp_path: Path) -> None:
    table = load(write_tables(tmp_path, FEW))
    assert table.entry(ID["142311"]) is table.entry(ID["123411"])
    for code in ("123411", "142311"):
        assert table.find(SPACE.canonical(SPACE.parse(code))) == (table.entry(ID["123411"]),)
    assert table.find(SPACE.canonical(SPACE.parse("222222"))) == ()
    assert table.measured(SPACE.canonical(SPACE.parse("222222")), "cifar10/val_acc") is None
    with pytest.raises(KeyError):
        table.entry(ID["222222"])


def test_the_same_network_trained_twice_counts_with_its_mean(tmp_path: Path) -> None:
    twice = "334131", "333141"  # 3x3 of 3x3, 3x3 of the input, its pooling, the input: one network, two texts
    assert len({SPACE.canonical(SPACE.parse(code)) for code in twice}) == 1
    table = load(write_tables(tmp_path, accuracies(list(twice))))
    assert len(table.entries) == 2 and len(table.keys) == 1
    values = [table.entry(ID[code]).values[5] for code in twice]
    assert table.measured(table.keys[0], "cifar10/autoattack") == pytest.approx(np.mean(values), abs=1e-4)


def test_a_complete_table_answers_for_every_cell(complete: Path) -> None:
    table = load(complete)
    assert len(table.entries) == table.whole == 6466
    keys = {SPACE.canonical(SPACE.parse(code)) for code in CODES}
    assert set(table.keys) == keys
    assert all(table.measured(key, "imagenet/val_acc") is not None for key in keys)


def test_the_networks_are_those_of_the_data_set(tmp_path: Path) -> None:
    table = load(write_tables(tmp_path, FEW))
    for data, classes, size in (("cifar10", 10, 32), ("cifar100", 100, 32), ("imagenet", 120, 16)):
        spec = table.spec_for(f"{data}/val_acc")
        assert (spec.classes, spec.image_size, spec.channels, spec.layers) == (classes, (size, size), 16, 15)


def test_line_endings_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    one, other = write_tables(tmp_path / "1", FEW), write_tables(tmp_path / "2", FEW)
    for name in (FILE, "ops.json"):
        content = (one / name).read_bytes()
        (one / name).write_bytes(content.replace(b", ", b",\n") + b"\n")
        (other / name).write_bytes(content.replace(b", ", b",\r\n"))
    assert load(one).fingerprint == load(other).fingerprint
    assert load(write_tables(tmp_path / "3", accuracies(["333133"]))).fingerprint != load(one).fingerprint


def test_files_are_found_in_the_folder_or_in_one_of_the_tables_name(tmp_path: Path) -> None:
    write_tables(tmp_path / "a" / "nas_robbench_201", FEW)
    assert load(tmp_path / "a").entries == load(write_tables(tmp_path / "b", FEW)).entries


def test_what_is_missing_is_named_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{FILE} .*is in none of .*published at https://tt2408.github.io/nasrob"):
        load(tmp_path)
    write_tables(tmp_path, FEW)
    (tmp_path / "ops.json").unlink()
    with pytest.raises(UserError, match=r"ops.json is missing; .* https://tt2408.github.io/nasrobbench201hp"):
        load(tmp_path)


Change = Callable[[dict[str, Any]], Any]

ALTERED: list[tuple[str, Change, str]] = [
    ("columns", lambda acc: acc.update({"": COLUMNS[::-1]}), "the columns are"),
    ("no columns", lambda acc: acc.pop(""), "the columns are None"),
    ("short row", lambda acc: acc[ID["333133"]].pop(), f"cell {ID['333133']} has 17 values, expected 18"),
    ("above one", lambda acc: acc[ID["333133"]].__setitem__(3, 1.5), "has the accuracy 1.5, expected a fraction"),
    ("below zero", lambda acc: acc[ID["333133"]].__setitem__(3, -0.1), "has the accuracy -0.1"),
    ("not a number", lambda acc: acc[ID["333133"]].__setitem__(3, float("nan")), "has the accuracy nan"),
    ("a truth", lambda acc: acc[ID["333133"]].__setitem__(3, True), "has the accuracy True"),
    ("dangling", lambda acc: acc.update({ID["142311"]: "7"}), f"cell {ID['142311']} refers to 7, which is not there"),
    ("itself", lambda acc: acc.update({"7": "7"}), "cell 7 refers to 7, which has no row"),
    ("circle", lambda acc: acc.update({"7": "8", "8": "7"}), "cell 7 refers to 8, which has no row but refers to 7"),
    ("chain", lambda acc: acc.update({"7": ID["142311"]}), f"refers to {ID['142311']}, which has no row"),
    ("another", lambda acc: acc.update({ID["142311"]: ID["333133"]}), "no isomorphic cell"),
    ("two rows", lambda acc: acc.update({ID["142311"]: row("142311")}), "have a row each, but are isomorphic"),
    ("no such id", lambda acc: acc.update({"15625": row("333333")}), "id '15625', expected a number from 0 to 15624"),
    ("a word", lambda acc: acc.update({"best": row("333333")}), "id 'best'"),
    ("zeros", lambda acc: acc.update({"007": row("333333")}), "id '007'"),
    ("no id", lambda acc: acc.update({"7": None}), "id None"),
    ("a list", lambda acc: [acc], "holds list, expected rows by id"),
    ("empty", lambda acc: {"": COLUMNS}, "holds none of its 6466 classes"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in ALTERED], ids=[case[0] for case in ALTERED])
def test_an_altered_table_is_refused_in_one_line(change: Change, message: str, tmp_path: Path) -> None:
    acc = json.loads(json.dumps(FEW))
    changed = change(acc)
    write_tables(tmp_path, changed if message.startswith("holds") else acc)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 3, 4, 40, -1])
def test_a_truncated_table_is_refused(keep: int, tmp_path: Path) -> None:
    path = write_tables(tmp_path, FEW) / FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="cut off or altered|does not begin with acc="):
        load(tmp_path)


def test_a_program_is_not_run(tmp_path: Path) -> None:
    path = write_tables(tmp_path, FEW) / FILE
    path.write_text(f"acc=__import__('pathlib').Path({str(tmp_path / 'made')!r}).touch()")
    with pytest.raises(UserError, match="cut off or altered"):
        load(tmp_path)
    assert not (tmp_path / "made").exists()


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    path = write_tables(tmp_path, FEW) / FILE
    path.write_text(path.read_text()[:-1] + f', "{ID["333133"]}": {row("333133")}}}')
    with pytest.raises(UserError, match="a name stands there twice"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        (CODES[:-1], "must list 15625 cells, got 15624"),
        ([*CODES[:-1], "000000"], "must list 15625 different cells, got 15624"),
        ([*CODES[:-1], "555555"], "the cell '555555', expected six digits"),
        ([*CODES[:-1], 5], "the cell 5, expected six digits"),
        ({}, "must list 15625 cells, got dict"),
    ],
)
def test_altered_operations_are_refused(ops: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(write_tables(tmp_path, FEW, ops))


def test_operations_of_another_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no isomorphic cell|but are isomorphic"):
        load(write_tables(tmp_path, accuracies(CODES[::7]), CODES[::-1]))


def test_the_published_checksum_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"ops.json is not the published file: SHA-256 [0-9a-f]{16}\.\.\., expected"):
        load(write_tables(tmp_path, FEW))


# The published files


def test_the_published_table(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    table = load(published)
    assert f"holds {len(table.entries)} of 6466 classes" in table.description and len(table.entries) >= 3202
    assert len(table.metrics) == 18
    best = table.entry("9930")
    assert best.values[table.column("cifar10/autoattack")] == 44.38
    assert table.measured(best.key, "cifar10/autoattack") == table.values("cifar10/autoattack").max() == 44.38
    convolutions = [SPACE.count(SPACE.parse(e.genotype), "nor_conv_3x3") for e in table.entries]
    assert np.corrcoef(convolutions, table.values("cifar10/autoattack"))[0, 1] > 0.5


def test_the_published_table_of_standard_training(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    table = load_table("nas_bench_201_r", published)
    assert len(table.entries) == 6466 and len(table.metrics) == 17 and "cifar10/aa_apgd-ce" in table.metrics
    assert len(table.aliases) == 15625 - 6466 and len(table.keys) == 5924
    assert table.values("cifar10/clean").max() == pytest.approx(94.6)
