from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nas.errors import UserError
from nas.tabular import load_table
from nas.tabular.base import Table
from search_spaces import get_space
from tests.nas.tabular.synthetic import record

pytestmark = pytest.mark.usefixtures("own_files")

NAME = "robust_bench_seed_0_1000.json"


def load(folder: Path) -> Table:
    return load_table("tiny_robustbench", folder)


def write(folder: Path, *records: Any, name: str = NAME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(list(records)))
    return folder


def test_records_become_entries_in_percent(tmp_path: Path) -> None:
    write(tmp_path, record(3), record(1))
    table = load(write(tmp_path, record(2), name="robust_bench_seed_5.json"))
    assert [entry.id for entry in table.entries] == ["1", "2", "3"]
    assert table.values("cifar10/pgd").tolist() == [41, 42, 43]
    assert table.values("cifar10/clean").tolist() == [71, 72, 73]
    assert "holds 3 of 223 records" in table.description and table.sampled
    assert (table.spec.channels, table.spec.layers) == (16, 8) and len(table.files) == 2
    space = get_space("darts")
    for entry in table.entries:
        assert entry.key == space.canonical(space.parse(entry.genotype)) and table.find(entry.key) == (entry,)


def test_the_archive_is_read_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "tiny_robustbench"
    folder.mkdir()
    with zipfile.ZipFile(folder / "zcp.zip", "w") as archive:
        archive.writestr(f"zcp/deep/inside/{NAME}", json.dumps([record(1), record(2)]))
        archive.writestr(f"zcp/copy/{NAME}", json.dumps([record(1), record(2)]))
        archive.writestr("zcp/robust_bench_seed_7.json", json.dumps([record(7)]))
        archive.writestr(f"__MACOSX/._{NAME}", b"\0")
        archive.writestr("zcp/train.py", "raise SystemExit")
    assert [entry.id for entry in load(tmp_path).entries] == ["1", "2", "7"]
    assert [each.name for each in folder.iterdir()] == ["zcp.zip"]
    unpacked = write(tmp_path / "json", record(1), record(2))
    assert load(write(unpacked, record(7), name="robust_bench_seed_7.json")).fingerprint == load(tmp_path).fingerprint


def test_copies_that_differ_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zcp.zip", "w") as archive:
        archive.writestr(f"a/{NAME}", json.dumps([record(1)]))
        archive.writestr(f"b/{NAME}", json.dumps([record(2)]))
    with pytest.raises(UserError, match="twice with different contents"):
        load(tmp_path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zcp.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAME, json.dumps([record(1)]))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:], b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"zcp.zip cannot be read, it is cut off or altered"):
            load(tmp_path)


def test_what_is_missing_is_named_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"robust_bench_seed_\*.json of Tiny-.*https://github.com/fyqsama/ZCP.*zcp.zip"):
        load(tmp_path)
    with zipfile.ZipFile(tmp_path / "zcp.zip", "w") as archive:
        archive.writestr("empty", "")
    with pytest.raises(UserError, match=r"zcp.zip holds no robust_bench_seed_\*.json"):
        load(tmp_path)


def changed_genotype(**parts: Any) -> dict[str, Any]:
    net = record(1)["net"]
    return {**net, "genotype": {**net["genotype"], **parts}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_test_top1_adv": 141.0}, "max_test_top1_adv is 141.0, expected a number from 0 to 100"),
        ({"max_test_top1_adv": float("nan")}, "max_test_top1_adv is nan"),
        ({"max_test_top1_adv": "41"}, "max_test_top1_adv is '41'"),
        ({"max_test_top1_adv": 40.9}, "max_test_top1_adv is 40.9, but the best of test_ep_top1_adv is 41.0"),
        ({"test_ep_top1_adv": []}, "altered"),
        ({"test_ep_top1_adv": None}, "altered"),
        ({"seed": -1}, "seed -1"),
        ({"seed": "1"}, "seed '1'"),
        ({"net": 5}, "altered"),
        ({"net": {**record(1)["net"], "width": 36}}, r"width, depth, aux \(36, 8, False\)"),
        ({"net": changed_genotype(normal=[["sep_conv_9x9", 0]] * 8)}, "sep_conv_9x9"),
        ({"net": changed_genotype(normal=[])}, "altered"),
        ({"net": {"aux": False, "depth": 8, "width": 16, "genotype": {}}}, "it has no 'normal'"),
    ],
)
def test_an_altered_record_is_refused_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, record(0), record(1, **changes))
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path)
    assert "record 1 is altered" in str(error.value) and "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, record(1), record(2)) / NAME
    content = path.read_bytes()
    for cut in (0, 1, 100, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(UserError, match="cut off or altered"):
            load(tmp_path)
    path.write_text("{}")
    with pytest.raises(UserError, match="holds dict, expected a list of records"):
        load(tmp_path)
    write(tmp_path, record(1), record(1))
    with pytest.raises(UserError, match="the record of seed 1 stands there twice"):
        load(tmp_path)
    write(tmp_path)
    with pytest.raises(UserError, match="holds none of its 223 records"):
        load(tmp_path)


def test_the_published_checksum_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(UserError, match="is not the published file"):
        load(write(tmp_path, record(1)))


def test_the_published_records(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    table = load(published)
    assert f"holds {len(table.entries)} of 223 records" in table.description and len(table.entries) >= 110
    assert len(table.keys) == len(table.entries)
    first = table.entry("0")
    assert first.values == (41.99, 75.4)
    assert get_space("darts").parse(first.genotype) == get_space("darts").sample_published(0)
