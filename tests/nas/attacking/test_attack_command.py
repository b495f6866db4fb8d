"""``python -m nas.attack`` as a user meets it."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.attack import main
from nas.attacking.attacks.pgd import PGD
from nas.attacking.config import AttackConfig
from nas.errors import UserError
from nas.models.architecture import Architecture
from nas.models.checkpoint import Checkpoint
from tests.nas import commands
from tests.nas.commands import ROOT
from tests.nas.trained_networks import DIGITS, trained_checkpoint

slip = partial(commands.slip, main=main)

QUICK = shlex.split("--attack natural --attack fgsm --attack pgd-3 --samples 40 --batch 16 --threads 1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a trained model."""
    run = tmp_path_factory.mktemp("trained") / "run"
    trained_checkpoint(run / "train" / "best.pt")
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "run")
    return Path("run")


def result_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "attack.json").read_text())
    return value


def counts(run: Path) -> dict[str, int]:
    return {row["attack"]: row["correct"] for row in result_of(run)["attacks"]}


def lines(run: Path) -> list[str]:
    return (run / "attack-samples.jsonl").read_text().splitlines()


def test_the_table_and_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "run", *QUICK]) == 0
    out, err = capsys.readouterr()
    result = result_of(run)
    rows = {row["attack"]: row for row in result["attacks"]}
    assert list(rows) == ["natural", "FGSM", "PGD-3"] and rows["natural"]["samples"] == 40
    for name, row in rows.items():
        assert row["accuracy"] == row["correct"] / 40 and row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        assert re.search(rf"│ {name} +│ +{row['accuracy']:.2%} ", out), out
    assert rows["natural"]["correct"] > 20 and rows["FGSM"]["correct"] < rows["natural"]["correct"]
    assert rows["PGD-3"]["settings"] == [
        {
            "name": "PGD-3", "method": "pgd", "norm": "Linf", "epsilon": 8 / 255, "steps": 3, "step_size": 2 / 255,
            "random_start": True,
        }
    ]  # fmt: skip
    assert result["model"]["architecture"]["family"] == "nasbench201" and result["model"]["params"] > 0
    assert {"torch", "torchattacks", "python"} <= set(result["versions"])
    assert result["images"]["dataset"] == "digits" and "worst case" in out
    assert "accuracy" in err and "40/40" in err and "left" in err


def test_json_and_quiet(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", "run/train/best.pt", *QUICK, "--json", "--out", "results"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and json.loads(out) == result_of(Path("results"))
    assert main(["--run", "run", *QUICK, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and re.fullmatch(r"natural 0\.\d{4}\nFGSM 0\.\d{4}\nPGD-3 0\.\d{4}\n", out)


@pytest.mark.parametrize("flag", ["--quiet", "--json"])
def test_what_changes_the_meaning_of_a_number_is_said(
    flag: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas.attacking.evaluation.masking_signs", lambda *_: ["gradients mislead"])
    assert main(["--run", "run", *QUICK, flag]) == 0
    out, err = capsys.readouterr()
    assert result_of(run)["warnings"] == ["gradients mislead"]
    if flag == "--quiet":
        assert err == "warning: gradients mislead\n" and len(out.splitlines()) == 3
    else:
        assert err == "" and json.loads(out)["warnings"] == ["gradients mislead"]


def test_weights_that_are_no_numbers_have_no_accuracy(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(run / "train/best.pt", weights_only=True)
    content["weights"]["network.classifier.bias"] += math.nan
    torch.save(content, run / "train/best.pt")
    error = slip(capsys, "--run", "run", *QUICK, "--quiet")
    assert "finite logits, got nan, nan, nan, nan, ... for image 0 (natural)" in error
    assert not (run / "attack.json").exists()


def test_an_attack_that_raises_an_error_is_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PGD, "run", lambda *_: 1 / 0)
    assert main(["--run", "run", *QUICK]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    expected = r"error: PGD-3 failed on \d+ images, ZeroDivisionError: division by zero; .* kept in run/attack-sampl"
    assert re.search(expected, error)
    assert sum('"FGSM"' in line for line in lines(run)) == 3


def test_a_result_s_configuration_can_be_given_back(run: Path) -> None:
    assert main(["--run", "run", *QUICK, "--epsilon", "4/255", "--norm", "L2", "--quiet"]) == 0
    before = counts(run)
    (run / "attack.json").rename("given.json")
    (run / "attack-samples.jsonl").unlink()
    assert main(["--config", "given.json", "--quiet"]) == 0
    assert counts(run) == before and result_of(run)["norm"] == "L2"


def test_what_is_known_is_not_attacked_again(run: Path) -> None:
    words = ["--run", "run", *QUICK, "--quiet"]
    assert main(words) == 0
    first, known = counts(run), lines(run)
    assert main(words) == 0
    assert counts(run) == first and lines(run) == known
    assert main([*words, "--samples", "60"]) == 0
    assert lines(run)[: len(known)] == known and len(lines(run)) > len(known)
    extended = counts(run)
    (run / "attack-samples.jsonl").unlink()
    assert main([*words, "--samples", "60"]) == 0
    assert counts(run) == extended
    assert main([*words, "--samples", "60", "--seed", "1"]) == 0
    assert len(lines(run)) > len(known)


def test_a_killed_evaluation_goes_on(run: Path) -> None:
    words = ["--run", "run", "--attack", "pgd-40", "--samples", "300", "--batch", "8", "--threads", "1", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "nas.attack", *words], env=environment)
    file = run / "attack-samples.jsonl"
    deadline = time.monotonic() + 60
    while (not file.exists() or file.read_bytes().count(b"\n") < 6) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (run / "attack.json").exists()
    with open(file, "ab") as torn:
        torn.write(b'{"key": "torn')
    known = file.read_bytes().rpartition(b"\n")[0]
    few = [*words[:5], "40", *words[6:]]
    assert main(few) == 0
    assert file.read_bytes().startswith(known + b"\n") and "torn" not in file.read_text()
    resumed = counts(run)
    file.unlink()
    assert main(few) == 0
    assert counts(run) == resumed


def test_two_interruptions_within_a_block_end_in_one_line(run: Path) -> None:
    process = commands.process("--run", "run", "--attack", "autoattack", "--threads", "1", start=("-m", "nas.attack"))
    file = run / "attack-samples.jsonl"
    deadline = time.monotonic() + 120
    while commands.lines_in(file) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert err.splitlines()[-1].startswith("interrupted; what is finished is in run/attack-samples.jsonl")
    kept = [json.loads(line)["attack"] for line in lines(run)]
    assert kept[:2] == ["natural", "APGD-CE"]  # of the block in which it was interrupted


def test_another_model_shares_nothing(run: Path) -> None:
    assert main(["--run", "run", *QUICK, "--quiet"]) == 0
    before = len(lines(run))
    content = torch.load(run / "train/best.pt", weights_only=True)
    content["weights"]["network.classifier.bias"] += 0.1
    torch.save(content, run / "train/best.pt")
    assert main(["--run", "run", *QUICK, "--quiet"]) == 0
    assert len(lines(run)) == 2 * before


def test_damaged_results_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "attack-samples.jsonl").write_text('{"key": "a", "first": 0, "end": 2, "correct": [true], "seconds": 1}\n')
    assert "attack-samples.jsonl line 1 is no attack's result" in slip(capsys, "--run", "run", *QUICK)


class _Touch:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def _other_checkpoint(path: str, **changes: Any) -> None:
    architecture = Architecture(
        **{"family": "darts", "genotype": "DARTS_V2", "channels": 2, "layers": 2, "classes": DIGITS, **changes}
    )
    Checkpoint(architecture=architecture, weights=architecture.build().state_dict()).save(Path(path))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--epsilon 1.5", ["--epsilon must be from 0 to 1", "got 1.5"]),
        ("--epsilon 300/255", ["--epsilon must be from 0 to 1", "got 300/255"]),
        ("--epsilon -0.1", ["--epsilon must be from 0 to 1, got -0.1"]),
        ("--epsilon nan", ["--epsilon must be a finite number, got nan"]),
        ("--epsilon eight", ["--epsilon must be a number or a fraction such as 8/255, got 'eight'"]),
        ("--epsilon 8/0", ["--epsilon must be a number or a fraction such as 8/255, got '8/0'"]),
        ("--step-size 0", ["--step-size must be above 0"]),
        ("--step-size 2", ["--step-size must be from 0 to 1, got 2, in pixel units"]),
        ("--attack pgd20", ["unknown attack 'pgd20'", "did you mean pgd-20"]),
        ("--attack autoatack", ["unknown attack 'autoatack'", "did you mean autoattack"]),
        ("--attack fgsm", ["each once"]),
        ("--attack", ["--attack needs a value"]),
        ("--norm L1", ["--norm must be Linf or L2, got L1"]),
        ("--samples 0", ["--samples must be at least 1, got 0"]),
        ("--samples 5000", ["--samples must be at most the 355 test images, got 5000"]),
        ("--batch 0", ["--batch must be at least 1, got 0"]),
        ("--seed -1", ["--seed must be a whole number from 0"]),
        ("--device gpu", ["--device must be cpu, cuda"]),
        ("--dataset cifar", ["unknown data set 'cifar'"]),
        ("--image-size 16", ["images of digits have 16x16 pixels", "expected 8x8", "--image-size"]),
        ("--checkpoint wide.pt", ["expected --run RUN or --checkpoint FILE, got both"]),
        ("--bach 5", ["unknown option '--bach'", "did you mean --batch"]),
    ],
)
def test_bad_input_is_one_line(words: str, parts: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = slip(capsys, "--run", "run", *QUICK, *shlex.split(words))
    assert all(part in error for part in parts), error
    assert sorted(os.listdir("run")) == ["train"]


@pytest.mark.parametrize(
    ("name", "words", "parts"),
    [
        ("cut.pt", "", ["cut.pt is", "truncated"]),
        ("evil.pt", "", ["evil.pt is refused"]),
        ("missing.pt", "", ["missing.pt does not exist"]),
        ("empty", "", ["empty holds no trained model", "python -m nas.train"]),
        ("wide.pt", "", ["wide.pt does not say what it was trained on: --dataset"]),
        ("wide.pt", "--dataset digits", ["images of digits have 32x32 pixels", "expected 16x16"]),
        ("three.pt", "--dataset digits", ["digits has 10 classes, expected the 3 of three.pt"]),
        ("words.pt", "--dataset digits", ["class 0 of digits is '0', expected 'zero'"]),
    ],
)
def test_checkpoints_that_cannot_be_attacked(
    name: str, words: str, parts: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (run / "train/best.pt").read_bytes()
    Path("cut.pt").write_bytes(content[: len(content) // 2])
    torch.save({"format": 1, "weights": _Touch()}, "evil.pt")
    Path("empty").mkdir()
    _other_checkpoint("wide.pt", image_size=(16, 16))
    _other_checkpoint("three.pt", classes=("0", "1", "2"))
    _other_checkpoint("words.pt", classes=("zero", *DIGITS[1:]))
    error = slip(capsys, "--checkpoint", name, *QUICK, *shlex.split(words))
    assert all(part in error for part in parts), error
    assert not Path("executed").exists() and not Path("attack.json").exists()


def test_neither_run_nor_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected --run RUN or --checkpoint FILE, got neither" in slip(capsys)


def test_a_norm_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UserError, match="--norm must be Linf or L2, got 'inf'"):
        AttackConfig(run="run", norm="inf")  # type: ignore[arg-type]


def test_options_in_an_attack_s_name(run: Path) -> None:
    words = ["--attack", "pgd(steps=3, step_size=0.01)", "--samples", "8", "--quiet"]
    assert main(["--run", "run", *words]) == 0
    (row,) = result_of(run)["attacks"]
    assert row["attack"] == "pgd(step_size=0.01, steps=3)" and row["settings"][0]["step_size"] == 0.01


def test_help_needs_no_torch() -> None:
    program = (
        "import sys, nas.attack\n"
        "try: nas.attack.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'torchattacks', 'torchvision') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == "" and done.stdout.splitlines()[-1] == "[]"
    flags = "--run --checkpoint --attack --norm --epsilon --step-size --samples --batch --dataset --out --json --quiet"
    assert set(flags.split()) <= set(re.findall(r"--[\w-]+", done.stdout))
