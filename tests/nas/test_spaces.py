"""A search space of a user's own from the search to the attack, and what is refused on the way."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from nas import Search, UserError, attack, export, retrain, train
from nas import search as search_command
from nas.attacking.evaluation import evaluate
from nas.errors import as_user_error
from nas.executors.local import LocalExecutor
from nas.models.architecture import Architecture
from nas.models.checkpoint import read_checkpoint
from nas.retraining import RetrainConfig, Retrainer
from nas.spaces import known_space, named_space, own_fingerprint
from nas.training import TrainConfig, Trainer
from proxies.baselines import Params
from search_spaces.darts.space import DartsSpace
from tests.nas.own_space import THREE, OtherWidths, WidthSpace

SMALL: dict[str, Any] = {
    "image_size": 8, "images": 40, "validation": 20, "batch_size": 20, "epochs": 2, "validation_steps": 1, "threads": 1,
}  # fmt: skip
WORDS = shlex.split("--image-size 8 --images 40 --validation 20 --batch-size 20 --epochs 2 --validation-steps 1")
OWN = ["--space", "tests.nas.own_space:WidthSpace"]
#: spaces that are not WidthSpace(3), and what is said of them
OTHERS = {
    "none": (None, "unknown (search space|model) 'widths'.*--space module:Class, or space= from Python"),
    "of another name": (DartsSpace(), "the space must be 'widths', got 'darts'"),
    "of other values": (WidthSpace(4), "the space 'widths' is another one, or was changed: its fingerprint is"),
    "of another class": (OtherWidths(), "the space 'widths' is another one, or was changed: its fingerprint is"),
}


class NarrowDarts(DartsSpace):
    """A user's space with the name of one of this program's."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a search in WidthSpace whose best network was trained."""
    run = tmp_path_factory.mktemp("own") / "run"
    result = Search(WidthSpace(), "random", "params", budget=4, seed=1, out=run).run()
    assert result.report is not None and "widths" in result.report.read_text()
    Trainer(TrainConfig(run=str(run), **SMALL), space=WidthSpace()).run()
    return run


def test_what_a_search_finds_can_be_trained_loaded_and_attacked(trained: Path) -> None:
    stored = read_checkpoint(trained / "train/best.pt", WidthSpace()).architecture
    best = json.loads((trained / "best.json").read_text())
    manifest = json.loads((trained / "manifest.json").read_text())
    assert (stored.family, stored.genotype) == ("widths", best["genotype"])
    assert (stored.channels, stored.layers) == (None, None)
    assert stored.space_fingerprint == manifest["space_fingerprint"] == own_fingerprint(WidthSpace())
    model = nas.load(trained, space=WidthSpace())
    assert sum(each.numel() for each in model.parameters()) == stored.cost().params
    images = torch.rand(6, 3, 8, 8)
    result = evaluate(model, images, model(images).argmax(1), ["natural", "fgsm"], epsilon=0.1)
    assert {row["attack"]: row["correct"] for row in result.to_json()["attacks"]}["natural"] == 6


@pytest.mark.parametrize(("space", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_another_space_is_refused(space: Any, message: str, trained: Path) -> None:
    uses = {
        "load": lambda: nas.load(trained, space=space),
        "train": lambda: Trainer(TrainConfig(run=str(trained), **SMALL), out=trained / "2", space=space),
        "resume": lambda: Trainer(TrainConfig(run=str(trained), **SMALL), resume=True, space=space).run(),
        "retrain": lambda: Retrainer(RetrainConfig(run=str(trained), executor="local", **SMALL), space=space),
        "search": lambda: Search(
            space or "widths", "random", "params", budget=4, seed=1, out=trained, resume=True
        ).run(),
    }
    for name, use in uses.items():
        if name == "search" and space is not None and space.name != "widths":
            continue  # another configuration
        with pytest.raises(UserError, match=message) as error:
            use()
        assert "\n" not in str(error.value), name
    assert {each.name for each in trained.iterdir()} >= {"manifest.json", "train"}
    assert not (trained / "2").exists() and not (trained / "retrain").exists()


def test_a_search_of_a_user_s_space_goes_on(trained: Path) -> None:
    again = Search(WidthSpace(), "random", "params", budget=4, seed=1, out=trained, resume=True, report=False).run()
    assert again.summary["trials"] == 4


def test_a_space_of_ones_own_must_not_have_the_name_of_a_known_one() -> None:
    """Otherwise a configuration that names the space would mean another one."""
    own = own_fingerprint(NarrowDarts())
    assert own is not None and own_fingerprint(DartsSpace()) is None
    assert type(known_space("darts")) is type(known_space("darts", DartsSpace())) is DartsSpace
    for take in (lambda: known_space("darts", NarrowDarts(), own), lambda: Search(NarrowDarts())):
        with pytest.raises(UserError, match="must not be one of darts, .*nasbench201.*, got darts"):
            take()
    with pytest.raises(UserError, match=f"its fingerprint is none, as one of this program's, expected {own}"):
        known_space("darts", None, own)


@pytest.mark.parametrize("name", [None, "", "../../evil", "a b", 5])
def test_names_that_cannot_name_files_are_refused(name: Any) -> None:
    space = WidthSpace()
    space.name = name
    with pytest.raises(UserError, match="the name of a space must be a word"):
        Search(space)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": WidthSpace}, "space must be a name or a SearchSpace object, got the class WidthSpace"),
        ({"space": 5}, "space must be a name or a SearchSpace object, got int"),
        ({"executor": LocalExecutor}, "executor must be a name or an Executor object, got <class"),
        ({"executor": []}, r"executor must be a name or an Executor object, got \[\]"),
        ({"proxies": [Params]}, "a proxy must be a name or a Proxy object with a name, got <class"),
        ({"proxies": 5}, "a proxy must be a name or a Proxy object with a name, got 5"),
        ({"searcher": None}, "--searcher must be a name, one of .*random, regularized_evolution.*, got None"),
    ],
)
def test_other_objects_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Search(**options)


def test_a_fingerprint_is_of_what_the_space_does() -> None:
    assert own_fingerprint(WidthSpace()) == own_fingerprint(THREE)
    others = {own_fingerprint(each) for each in (WidthSpace(), WidthSpace(4), WidthSpace(base=9), OtherWidths())}
    assert len(others) == 4 and all(each is not None and len(each) == 16 for each in others)


def test_an_architecture_of_a_known_space_is_stored_as_before() -> None:
    architecture = Architecture(family="darts", genotype="DARTS_V2", classes=("a", "b"))
    assert "space" not in architecture.to_json() and "space_fingerprint" not in architecture.to_json()
    assert Architecture.from_json(architecture.to_json()) == architecture
    for changes in ({"space_fingerprint": 5}, {"space": None}, {"channels": "8"}):
        with pytest.raises(UserError, match="not an architecture"):
            Architecture.from_json({**architecture.to_json(), **changes})


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = shlex.split("--searcher random --proxy params --budget 3 --quiet --out run --no-report")
    assert search_command.main([*OWN, *found]) == 0
    assert json.loads(Path("run/manifest.json").read_text())["configuration"]["space"] == "widths"
    assert train.main(["--space=tests.nas.own_space:THREE", "--run", "run", "--quiet", *WORDS]) == 0
    assert train.main([*OWN, "--cell", "1-2-3", "--quiet", "--out", "cell", *WORDS]) == 0
    attacks = shlex.split("--attack natural --attack fgsm --samples 10 --quiet")
    assert attack.main([*OWN, "--run", "run", *attacks]) == 0
    assert export.main([*OWN, "--run", "run", "--format", "safetensors"]) == 0
    assert nas.load("run/train/model.safetensors", space=THREE)(torch.rand(1, 3, 8, 8)).shape == (1, 10)
    retraining = shlex.split("--run run --top 2 --executor local --quiet")
    assert retrain.main([*OWN, *retraining, *WORDS]) == 0
    assert retrain.main([*OWN, "--resume", "run", "--quiet"]) == 0
    assert search_command.main([*OWN, "--resume", "run", "--quiet", "--no-report"]) == 0
    capsys.readouterr()
    for main, words in (
        (search_command.main, ["--resume", "run"]),
        (train.main, ["--run", "run", "--out", "2"]),
        (train.main, ["--resume", "run"]),
        (attack.main, ["--run", "run"]),
        (export.main, ["--run", "run"]),
        (retrain.main, ["--resume", "run"]),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "'widths'" in error and "--space module:Class" in error, error
    assert attack.main(["--space", "darts", "--run", "run"]) == 2
    assert "the space must be 'widths', got 'darts'" in capsys.readouterr().err
    assert retrain.main(["--space", "tests.nas.own_space:OtherWidths", "--resume", "run"]) == 2
    assert "the space 'widths' is another one, or was changed: its fingerprint is" in capsys.readouterr().err
    assert train.main([*OWN, "--run", "run", "--channels", "4", "--out", "2"]) == 2
    assert "--channels has no use with the space widths" in capsys.readouterr().err


def test_a_search_that_trains_and_attacks_hands_its_space_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(train.__dict__, "command", lambda words, space: given.append(space))
    monkeypatch.setitem(attack.__dict__, "command", lambda words, space: given.append(space) or 0)
    given: list[Any] = []
    words = shlex.split("--searcher random --proxy params --budget 2 --quiet --no-report --train quick --out")
    assert search_command.main([*OWN, *words, str(tmp_path / "run")]) == 0
    assert [type(each) for each in given] == [WidthSpace, WidthSpace]


def test_nothing_that_a_file_names_is_imported(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("named_by_a_file.py").write_text("raise AssertionError('imported')\n")
    Path("run").mkdir()
    for name in ("manifest.json", "best.json", "trials.jsonl"):
        text = (trained / name).read_text()
        Path("run", name).write_text(text.replace('"widths"', '"named_by_a_file:Space"'))
    checkpoint = torch.load(trained / "train/best.pt", weights_only=True)
    checkpoint["architecture"]["family"] = "named_by_a_file:Space"
    torch.save(checkpoint, "best.pt")
    Path("options.yaml").write_text("space: named_by_a_file:Space\n")
    for main, words in (
        (train.main, ["--run", "run"]),
        (train.main, ["--config", "options.yaml", "--cell", "1-2-3"]),
        (retrain.main, ["--run", "run", "--executor", "local"]),
        (search_command.main, ["--config", "run/manifest.json", "--out", "again"]),
        (search_command.main, ["--resume", "run"]),
        (attack.main, ["--checkpoint", "best.pt"]),
        (export.main, ["--checkpoint", "best.pt"]),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "'named_by_a_file:Space'" in error and "of your own" in error, error
    assert "named_by_a_file" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere_at_all:Space", "--space nowhere_at_all:Space cannot be imported: .*No module named 'nowhere_at_all'"),
        (":Space", "--space :Space cannot be imported: .*Empty module name"),
        ("tests.nas.own_space:Nothing", "has no attribute 'Nothing'"),
        ("tests.nas.own_space:", "cannot be imported: .* has no attribute ''"),
        ("json:JSONDecodeError", "--space json:JSONDecodeError cannot be imported: .*missing"),
        ("json:dumps", "--space json:dumps must be a SearchSpace, got function"),
        ("dart", "unknown search space 'dart'; did you mean darts"),
    ],
)
def test_what_names_no_space_is_refused(text: str, message: str) -> None:
    for words in (["--space", text], [f"--space={text}"]):
        with pytest.raises(UserError, match=message) as error:
            as_user_error(lambda words=words: named_space(words))
        assert "\n" not in str(error.value)


def test_a_command_line_without_a_space_stays_as_it_is() -> None:
    assert named_space(["--run", "a:b", "--space"]) == (["--run", "a:b", "--space"], None)
    words, space = named_space(["--space=tests.nas.own_space:THREE", "--seed", "3"])
    assert words == ["--space", "widths", "--seed", "3"] and type(space).__name__ == "WidthSpace"
