"""The black-box matrix."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.attacking.evaluation import evaluate
from nas.attacking.registry import get_attack
from nas.attacking.transfer import TransferConfig, transfer_matrix
from nas.errors import UserError
from nas.models.architecture import Architecture
from nas.models.checkpoint import Checkpoint
from nas.spaces import own_fingerprint
from nas.transfer import main
from tests.nas.own_space import WidthSpace
from tests.nas.trained_networks import DIGITS, sample_images, small_network, trained_checkpoint

ATTACK = ["--samples", "40", "--attack", "pgd-5", "--epsilon", "16/255", "--threads", "1"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a cell network, and a checkpoint of another one."""
    folder = tmp_path_factory.mktemp("models")
    trained_checkpoint(folder / "run" / "train" / "best.pt")
    trained_checkpoint(folder / "other.pt", epochs=1)
    return folder


def test_the_matrix_is_counted_image_by_image() -> None:
    models = {"one": small_network(), "two": small_network(epochs=3)}
    images, labels = sample_images(30)
    attack = get_attack("fgsm", classes=10, epsilon=0.1)
    natural, matrix = transfer_matrix(models, images, labels, attack, batch=7)
    for name, model in models.items():
        assert natural[name] == int((model(images).argmax(1) == labels).sum())
        given = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(given), labels), given)
        right = model(images).argmax(1) == labels
        changed = torch.where(right.view(-1, 1, 1, 1), (images + 0.1 * gradient.sign()).clamp(0, 1), images)
        for judge, other in models.items():
            assert matrix[name][judge] == int((other(changed).argmax(1) == labels).sum())
    assert matrix["one"]["one"] < matrix["one"]["two"] < natural["two"]


def test_logits_that_are_not_finite_are_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 10), math.inf)

    models = {"one": small_network(epochs=1), "two": Broken()}
    message = r"for image 0 \(PGD-2 on one, classified by two\)"
    with pytest.raises(UserError, match=message):
        transfer_matrix(models, *sample_images(4), get_attack("pgd-2", classes=10))


def test_a_cascade_counts_what_all_of_its_members_turn() -> None:
    model = small_network()
    images, labels = sample_images(30)
    attack = get_attack("autoattack(steps=3)", classes=10, epsilon=0.03)
    _, matrix = transfer_matrix({"one": model}, images, labels, attack)
    result = evaluate(model, images, labels, ["autoattack(steps=3)"], epsilon=0.03, checks=False)
    assert matrix["one"]["one"] == int(result.results[0].correct.sum())


def test_a_norm_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UserError, match="--norm must be Linf or L2, got 'inf'"):
        TransferConfig(model=("a=a.pt", "b=b.pt"), norm="inf")  # type: ignore[arg-type]


def test_table_and_files(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--model", f"a [b]={models / 'run'}", "--model", f"small={models / 'other.pt'}"]
    assert main([*named, *ATTACK, "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    result = json.loads((tmp_path / "out/transfer.json").read_text())
    assert list(result["accuracy"]) == list(result["natural"]) == ["a [b]", "small"]
    assert result["accuracy"]["a [b]"]["a [b]"] < result["natural"]["a [b]"]
    rows = list(csv.reader((tmp_path / "out/transfer.csv").read_text().splitlines()))
    assert rows[0] == ["made on", "a [b]", "small"] and rows[1][0] == "natural"
    assert float(rows[2][2]) == result["accuracy"]["a [b]"]["small"]
    assert (tmp_path / "out/transfer.png").read_bytes().startswith(b"\x89PNG")
    assert "a [b]" in out and f"{100 * result['natural']['small']:.2f}" in out and "made on small" in err


def _own_checkpoint(path: Path) -> None:
    space = WidthSpace()
    architecture = Architecture(
        family="widths", genotype="123", channels=None, layers=None, classes=DIGITS, image_size=(8, 8), space=space,
        space_fingerprint=own_fingerprint(space),
    )  # fmt: skip
    Checkpoint(architecture=architecture, weights=architecture.build().state_dict()).save(path)


def test_a_space_of_a_user_s_own_beside_one_of_the_program(models: Path, tmp_path: Path) -> None:
    _own_checkpoint(tmp_path / "own.pt")
    words = ["--model", f"one={models / 'run'}", "--model", f"own={tmp_path / 'own.pt'}", *ATTACK, "--quiet"]
    assert main([*words, "--space", "tests.nas.own_space:WidthSpace", "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out/transfer.json").read_text())
    families = {name: model["architecture"]["family"] for name, model in result["models"].items()}
    assert families == {"one": "nasbench201", "own": "widths"}


def test_radii_and_images_from_python() -> None:
    models = {"one": small_network(epochs=1), "two": small_network(epochs=1)}
    images, labels = sample_images(4)
    attack = get_attack("fgsm", classes=10, epsilon="8/255")
    assert transfer_matrix(models, images.numpy(), labels.numpy(), attack) == transfer_matrix(
        models, images, labels, attack
    )
    attack.epsilon = 8
    with pytest.raises(UserError, match="--epsilon must be from 0 to 1, got 8"):
        transfer_matrix(models, images, labels, attack)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--model", "a=run"], "at least 2 models"),
        (["--model", "a=run", "--model", "run"], "must be NAME=PATH, got 'run'"),
        (["--model", "a=run", "--model", "a=other.pt"], "names 'a' twice"),
        (["--model", "a=run", "--model", "b=missing.pt"], "missing.pt does not exist"),
        (["--model", "a=run", "--model", "b=three.pt"], "share their classes: b has 3 (0, 1, 2), a has 10"),
        (["--model", "a=run", "--model", "b=wide.pt"], "share their image size: b has (16, 16), a has (8, 8)"),
        (["--model", "a=run", "--model", "b=other.pt", "--attack", "pgd20"], "unknown attack 'pgd20'"),
        (["--model", "a=run", "--model", "b=other.pt", "--epsilon", "2"], "--epsilon must be from 0 to 1"),
        (["--model", "a=run", "--model", "b=other.pt", "--attack", "pgd(step_size=2)"], "--step-size must be from"),
        (["--model", "a=own.pt", "--model", "b=other.pt"], "unknown model 'widths'"),
        (["--space", "tests.nas.own_space:OtherWidths", "--model", "a=own.pt", "--model", "b=run"], "fingerprint is"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    part: str,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(models)
    small = {"family": "darts", "genotype": "DARTS_V2", "channels": 2, "layers": 2, "image_size": (8, 8)}
    for name, changes in {"three.pt": {"classes": ("0", "1", "2")}, "wide.pt": {"image_size": (16, 16)}}.items():
        architecture = Architecture(**{**small, "classes": DIGITS, **changes})  # type: ignore[arg-type]
        Checkpoint(architecture=architecture, weights=architecture.build().state_dict()).save(Path(name))
    _own_checkpoint(Path("own.pt"))
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and part in err, err
    assert not (tmp_path / "out").exists()
