"""NARes, from files that the tests write in the form that its published program reads."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nas.errors import UserError
from nas.search import main
from nas.tabular import load_table
from nas.tabular.nares import TEST, VALIDATION
from search_spaces import get_space
from tests.nas.commands import slip

SPACE = get_space("wide_resnet")
DEPTHS, WIDTHS = (4, 5, 7, 9, 11), (8, 10, 12, 14, 16)


def record(number: int, **changes: Any) -> dict[str, Any]:
    """The network of the id ``number``; deeper and wider is more accurate. ``changes`` of the test's record."""
    digits = [number // 5**place % 5 for place in range(6)]
    arch = {f"D{i + 1}": DEPTHS[digits[i]] for i in range(3)} | {f"W{i + 1}": WIDTHS[digits[3 + i]] for i in range(3)}
    worth = sum(digits) / 10
    curves = {"val_acc": [1.0, 70 + worth, 2.0], "pgd": [0, 30 + worth, 3], "cw": [0.0, 29 + worth, 50.0]}
    tested = dict(zip(TEST.values(), (80 + worth, 60 + worth, 50 + worth, 49 + worth, 48 + worth), strict=True))
    return {
        "arch_id": number, "arch": arch, "MACs": 1.0, "Params": 1.0,
        "train": [{"seed": 0, "best_epoch": 1, **curves}],
        "test_best": [{**tested, "test_loss": 0.5, **changes}],
    }  # fmt: skip


def write(folder: Path, *records: Any, cut: int | None = None) -> Path:
    (folder / "nares").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(each) + "\n" for each in records)
    (folder / "nares" / "cifar10.jsonl").write_text(text[:cut])
    return folder


def test_records_become_entries_in_percent(tmp_path: Path) -> None:
    table = load_table("nares", write(tmp_path, record(626), record(1)))
    assert [entry.id for entry in table.entries] == ["1", "626"]
    first, second = table.entries
    assert (first.genotype, second.genotype) == ("d5-w8.d4-w8.d4-w8", "d5-w8.d4-w10.d4-w8")
    assert first.key == SPACE.canonical(SPACE.parse(first.genotype)) and table.find(first.key) == (first,)
    assert table.metrics == (*TEST, *VALIDATION)
    assert second.values == (80.2, 60.2, 50.2, 49.2, 48.2, 70.2, 30.2, 29.2)  # of the epoch 1
    assert table.description.startswith("NARes: holds 2 of 15625 networks, adversarially trained")
    spec = table.spec_for("cifar10/pgd")
    assert (spec.channels, spec.layers, spec.classes, spec.image_size) == (16, None, 10, (32, 32))


def test_the_fingerprint_is_of_the_lines(tmp_path: Path) -> None:
    table = load_table("nares", write(tmp_path, record(1), record(2)))
    path = tmp_path / "nares" / "cifar10.jsonl"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\n\n")
    assert load_table("nares", tmp_path).fingerprint == table.fingerprint
    assert load_table("nares", write(tmp_path, record(1))).fingerprint != table.fingerprint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({**record(2), "arch_id": 0}, "arch_id is 0, expected a number from 1 to 15625"),
        ({**record(2), "arch_id": 1}, "the network 1 stands there twice"),
        ({**record(2), "arch": {**record(2)["arch"], "D2": 6}}, "altered: arch has 6, expected one of 4, 5, 7"),
        ({**record(2), "arch": {}}, "line 2 is altered: it has no 'D1'"),
        ({**record(2), "train": []}, "train has 0 records, expected 1"),
        ({**record(2), "test_best": [None]}, "line 2 is altered: 'NoneType'"),
        (record(2, Linf_aa_acc=None), "line 2 is altered: Linf_aa_acc is None, expected a number from 0 to 100"),
        (record(2, Linf_pgd_acc=101.0), "Linf_pgd_acc is 101.0"),
        ({**record(2), "train": [{**record(2)["train"][0], "best_epoch": 3}]}, "line 2 is altered: list index"),
        ([1, 2], "line 2 is altered"),
    ],
)
def test_an_altered_line_is_refused_in_one_line(changed: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_table("nares", write(tmp_path, record(1), changed))
    assert "\n" not in str(error.value)


def test_what_is_missing_or_cut_off_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cifar10.jsonl of NARes is in none of .*nares.txz"):
        load_table("nares", tmp_path)
    with pytest.raises(UserError, match="cifar10.jsonl, line 2, is cut off or altered"):
        load_table("nares", write(tmp_path, record(1), record(2), cut=-20))
    with pytest.raises(UserError, match="holds none of its 15625 networks"):
        load_table("nares", write(tmp_path))


def test_a_search_on_the_table_counts_networks_of_the_published_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path, *(record(number) for number in range(1, 15_626, 7)))
    words = f"--table nares --metric cifar10/pgd --data-dir {data} --searcher local_search --budget 40 --quiet"
    assert main(shlex.split(f"{words} --out {tmp_path / 'run'}")) == 0
    best = json.loads((tmp_path / "run/best.json").read_text())
    genotype = SPACE.parse(best["genotype"])
    assert best["scores"]["cifar10/pgd"] == load_table("nares", data).measured(best["genotype"], "cifar10/pgd")
    assert best["params"] == SPACE.cost(genotype, load_table("nares", data).spec_for("cifar10/pgd")).params > 23e6
    configuration = json.loads((tmp_path / "run/manifest.json").read_text())["configuration"]
    assert (configuration["space"], configuration["channels"], configuration["layers"]) == ("wide_resnet", 16, None)
    page = (tmp_path / "run/report.html").read_text()
    assert "Network of basic blocks, relu" in page and "×2 at the output" not in page
    assert "--channels must be 16" in slip(capsys, *shlex.split(f"{words} --channels 4 --out {tmp_path / 'other'}"))
    assert "--layers has no use" in slip(capsys, *shlex.split(f"{words} --layers 4 --out {tmp_path / 'other'}"))
