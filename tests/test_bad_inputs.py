"""Bad input, for every option of every command: one line on the error stream that names the option, and exit code 2.

The rows are made from the options themselves, so that a new option is tried without being listed here.
"""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

import experiments.correlation.__main__ as correlation
import nas.attack
import nas.export
import nas.report.__main__ as report
import nas.retrain
import nas.search
import nas.train
import nas.transfer
from experiments.correlation.config import CorrelationConfig
from nas.attacking.config import AttackConfig
from nas.attacking.transfer import TransferConfig
from nas.cli.bounds import flag
from nas.cli.fields import options_of
from nas.models.export_file import ExportConfig
from nas.retraining.config import RetrainConfig
from nas.searching.config import SearchConfig
from nas.training.config import TrainConfig
from searchers.darts import Darts
from searchers.regularized_evolution import RegularizedEvolution
from searchers.zero_cost_pruning import ZeroCostPruning
from searchers.zero_shot_gradient import ZeroShotGradient
from tests.nas.commands import slip
from tests.nas.trained_networks import trained_checkpoint

Main = Callable[[Sequence[str]], int]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, the words without which it does not start, and the dataclasses of its options."""

    main: Main
    words: tuple[str, ...]
    options: tuple[Any, ...]


SMALL = ("--channels", "4", "--layers", "3")
#: MODEL and RUN stand for a checkpoint and a search's run directory, made once
COMMANDS = {
    "search": Command(
        nas.search.main, ("--proxy", "params", "--budget", "2", "--population", "2", "--tournament", "1", *SMALL),
        (SearchConfig, RegularizedEvolution.Options, nas.search.OutputOptions),
    ),
    "darts": Command(nas.search.main, ("--searcher", "darts", "--budget", "2", *SMALL), (Darts.Options,)),
    "gradient": Command(
        nas.search.main, ("--searcher", "zero_shot_gradient", "--space", "nasbench201", "--budget", "1", *SMALL),
        (ZeroShotGradient.Options,),
    ),
    "pruning": Command(
        nas.search.main, ("--searcher", "zero_cost_pruning", "--space", "nasbench201", "--budget", "1", *SMALL),
        (ZeroCostPruning.Options,),
    ),
    "train": Command(
        nas.train.main, ("--cell", "DARTS_V2", "--epochs", "1", "--images", "50", *SMALL),
        (TrainConfig, nas.train.OutputOptions),
    ),
    "retrain": Command(nas.retrain.main, ("--run", "RUN", "--epochs", "1"), (RetrainConfig, nas.retrain.OutputOptions)),
    "attack": Command(nas.attack.main, ("--checkpoint", "MODEL"), (AttackConfig, nas.attack.OutputOptions)),
    "transfer": Command(
        nas.transfer.main, ("--model", "a=MODEL", "--model", "b=MODEL"), (TransferConfig, nas.transfer.OutputOptions)
    ),
    "export": Command(nas.export.main, ("--checkpoint", "MODEL"), (ExportConfig,)),
    "correlation": Command(correlation.main, ("--bootstrap", "100"), (CorrelationConfig,)),
}  # fmt: skip

#: what is wrong for a value of each kind
WHOLE = ("many", "1.5", "-7", "nan", "9" * 5000)
NUMBER = ("much", "nan", "inf", "1e999", "1/0")
WORD = ("nothing",)
PATH = ("", "~no-such-user-here/x", "a\0b")
SWITCH = ("perhaps",)
#: these accept any text, or what is wrong with them is tried by hand below
FREE = {
    "address", "cell", "space", "dataset", "table", "metric", "proxy", "require", "attack", "model", "resume",
    "config", "searcher", "device", "epsilon", "step_size", "executor", "rungs",
}  # fmt: skip


def wrong_values(hint: Any, path: bool) -> tuple[str, ...]:
    """Texts that an option of this type must refuse."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if path:
        return PATH
    if any(typing.get_origin(kind) is Literal for kind in kinds):
        return WORD
    for kind, values in ((bool, SWITCH), (float, NUMBER), (int, WHOLE)):
        if kind in kinds:
            return values
    return ()


def rows() -> Iterator[Any]:
    for name, command in COMMANDS.items():
        for group in command.options:
            hints = typing.get_type_hints(group)
            for field in options_of(group):
                hint = field.metadata.get("accepts", hints[field.name])
                for value in wrong_values(hint, bool(field.metadata.get("path"))) if field.name not in FREE else ():
                    yield pytest.param(name, flag(field.name), value, id=f"{name}-{field.name}-{value[:12]!a}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("made")
    run = folder / "run"
    assert nas.search.main([*COMMANDS["search"].words, "--out", str(run), "--quiet", "--no-report"]) == 0
    return {"MODEL": str(trained_checkpoint(folder / "model.pt", epochs=0)), "RUN": str(run)}


def words_of(command: Command, made: dict[str, str], without: str = "") -> list[str]:
    """The words of the command, with names of files in place of MODEL and RUN; ``without`` one of the flags."""
    words = list(command.words)
    while without in words:
        del words[words.index(without) : words.index(without) + 2]
    return [word.replace("MODEL", made["MODEL"]).replace("RUN", made["RUN"]) for word in words]


ROWS = list(rows())


def test_there_are_many() -> None:
    assert len(ROWS) >= 200


@pytest.mark.parametrize(("name", "option", "value"), ROWS)
def test_a_wrong_value_is_one_line(
    name: str, option: str, value: str, made: dict[str, str], somewhere_else: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    words = words_of(command, made, option if option != "--model" else "")
    said = slip(capsys, *words, f"{option}={value}", main=command.main)
    assert option in said and len(said) < 400
    assert list(somewhere_else.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--chanels", "4"), "unknown option '--chanels'"),
        (("--se", "1"), "unknown option '--se'"),
        (("surplus",), "'surplus' belongs to no option"),
        (("--config",), "--config"),
        (("--config", "absent.yaml"), "absent.yaml: there is no such file"),
        (("--config", ""), "--config must be a path"),
        (("--config", "pipe"), "a pipe or a device"),
        (("--config", "/dev/zero"), "a pipe or a device"),
        (("--config", "."), "it is a folder"),
        (("--config", "list.yaml"), "must hold options by name"),
        (("--config", "unknown.yaml"), "unknown option 'chanels'"),
        (("--config", "tab.yaml"), "is not YAML"),
        (("--config", "latin.yaml"), "is not text in UTF-8"),
        (("--config", "large.yaml"), "expected at most"),
        (("--config", "twice.yaml"), "twice"),
        (("--config", "deep.yaml"), "deep.yaml"),
        (("--config", "python.yaml"), "is not YAML"),
        (("--config", "n" * 256), "File name too long"),
    ],
)
def test_a_wrong_option_or_file_is_one_line(
    name: str, words: tuple[str, ...], message: str, made: dict[str, str], somewhere_else: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    os.mkfifo("pipe")
    for file, content in (
        ("list.yaml", b"[1, 2]"), ("unknown.yaml", b"chanels: 4"), ("tab.yaml", b"a:\n\t- b: c: d"),
        ("latin.yaml", b"seed: \xe9"), ("large.yaml", b"#" * (2**20 + 1)), ("twice.yaml", b"seed: 1\nseed: 2\n"),
        ("deep.yaml", b"[" * 5000), ("python.yaml", b"seed: !!python/object/apply:os.system ['touch ran']"),
    ):  # fmt: skip
        Path(file).write_bytes(content)
    before = sorted(os.listdir())
    assert message in slip(capsys, *words_of(COMMANDS[name], made), *words, main=COMMANDS[name].main)
    assert sorted(os.listdir()) == before


def case(name: str, words: str, message: str, without: str = "") -> Any:
    return pytest.param(name, words.split(" "), message, without, id=f"{name}: {words[:60]}")


@pytest.mark.parametrize(
    ("name", "words", "message", "without"),
    [
        case("search", "--space dart", "unknown search space 'dart'"),
        case("search", "--space no_such_module:Space", "no_such_module"),
        case("search", "--searcher evolve", "unknown searcher 'evolve'"),
        case("search", "--proxy robst", "unknown proxy 'robst'", "--proxy"),
        case("search", "--proxy snip(images=0)", "images", "--proxy"),
        case("search", "--proxy snip(imags=4)", "imags", "--proxy"),
        case("search", "--proxy params --proxy params", "once", "--proxy"),
        case("search", "--require normal.skip=2", "normal.skip=2"),
        case("search", "--require normal.skip_connect>99 --max-draws 20", "in 20 draws"),
        case("search", "--dataset mnist", "unknown data set 'mnist'"),
        case("search", "--dataset folder:nowhere", "names no folder"),
        case("search", "--dataset cifar10 --proxy snip", "cifar10", "--proxy"),
        case("search", "--device gpu", "--device"),
        case("search", "--device cuda:99", "--device"),
        case("search", "--executor dask", "executor"),
        case("search", "--table nas_robbench", "unknown table 'nas_robbench'"),
        case("search", "--metric cifar10/pgd", "--metric"),
        case("search", "--workers 2", "--workers"),
        case("search", "--tournament 9", "tournament", "--tournament"),
        case("search", "--budget 0", "--budget must be at least 1", "--budget"),
        case("search", "--max-params 10 --max-draws 20", "constraint"),
        case("search", "--resume nowhere", "nowhere"),
        case("search", "--resume .", "is not a run directory"),
        case("search", "--resume a --out b", "two run directories"),
        case("search", f"--out {'n' * 256}", "File name too long"),
        case("search", "--out /proc/nowhere/x", "cannot be written"),
        case("train", "--cell DARTS_V3", "DARTS_V3", "--cell"),
        case("train", "--cell Genotype(normal=[", "character 18: the text ends", "--cell"),
        case("train", "--cell {}", "part 'normal' is missing", "--cell"),
        case("train", "--model vgg", "model"),
        case("train", "--run nowhere", "nowhere", "--cell"),
        case("train", "--epsilon 8", "--epsilon"),
        case("train", "--epsilon -1/255", "--epsilon"),
        case("train", "--step-size 2", "--step-size"),
        case("train", "--step-size 0", "--step-size"),
        case("train", "--images 0", "--images", "--images"),
        case("train", "--validation 5000", "--validation"),
        case("train", "--dataset folder:nowhere", "names no folder"),
        case("train", f"--out {'n' * 256}", "File name too long"),
        case("retrain", "--run nowhere", "nowhere", "--run"),
        case("retrain", "--top 0", "--top"),
        case("attack", "--checkpoint nowhere", "nowhere does not exist", "--checkpoint"),
        case("attack", f"--checkpoint {'n' * 256}", "File name too long", "--checkpoint"),
        case("attack", "--checkpoint /dev/zero", "a pipe or a device", "--checkpoint"),
        case("attack", "--run .", "holds no trained model", "--checkpoint"),
        case("attack", "--run nowhere", "expected --run"),
        case("attack", "--attack pgdd", "unknown attack 'pgdd'"),
        case("attack", "--attack pgd-0", "pgd-0"),
        case("attack", "--epsilon 8", "--epsilon"),
        case("attack", "--epsilon 8/0", "--epsilon"),
        case("attack", "--step-size 2", "--step-size"),
        case("attack", "--norm l2", "--norm"),
        case("attack", "--samples 0", "--samples"),
        case("attack", "--samples 1000000", "--samples"),
        case("attack", "--dataset svhn", "svhn"),
        case("transfer", "--model a", "NAME=PATH", "--model"),
        case("transfer", "--model a=nowhere --model b=nowhere", "nowhere", "--model"),
        case("transfer", "--attack cw=1", "attack"),
        case("export", "--checkpoint nowhere", "nowhere", "--checkpoint"),
        case("export", "--format tflite", "--format"),
        case("export", "--out no/such/folder/model.onnx --format safetensors", "--out"),
        case("correlation", "--table nothing", "unknown table"),
        case("correlation", "--data-dir .", "published at"),
    ],
)
def test_what_does_not_fit_is_one_line(
    name: str, words: list[str], message: str, without: str, made: dict[str, str], somewhere_else: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    said = slip(capsys, *words_of(COMMANDS[name], made, without), *words, main=COMMANDS[name].main)
    assert message in said
    assert list(somewhere_else.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "RUN"), (("nowhere",), "is not a run directory"), (("",), "--run must be a path"),
        (("a", "b"), "unrecognized arguments: b"), (("--json", "a"), "unrecognized arguments: --json"),
        (("n" * 256,), "File name too long"),
    ],
)  # fmt: skip
def test_the_report_of_no_run_is_one_line(
    words: tuple[str, ...], message: str, somewhere_else: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in slip(capsys, *words, main=report.main)
