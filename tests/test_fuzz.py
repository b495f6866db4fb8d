"""Whatever a file holds that this program reads: it ends in a value or in one line, soon and in little memory.

Each reader is given any bytes, its own files with bytes changed, and its own files with values exchanged.
"""

from __future__ import annotations

import copy
import io
import json
import resource
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.correlation.experiment import read_correlation
from experiments.correlation.score_log import NAME as SCORES
from experiments.correlation.score_log import ScoreLog
from nas.attacking.samples import SAMPLES, SampleStore
from nas.cli.options import parse_options
from nas.errors import UserError
from nas.models.architecture import Architecture
from nas.models.checkpoint import Checkpoint, read_checkpoint
from nas.report import write_report
from nas.retraining.retrainer import FOLDER, read_retraining
from nas.retraining.retrainer import MANIFEST as RETRAINING
from nas.runs.directory import BEST, MANIFEST, STATE, TRIALS, RunDirectory
from nas.runs.reader import read_run
from nas.runs.searcher_state import read_state, write_state
from nas.training.config import TrainConfig
from nas.training.directory import CONFIG, read_training
from search_spaces import get_space
from tests.nas.report.pages import MANIFEST as RUN
from tests.nas.report.pages import trials_of

MOST_MEGABYTES = 500  # beyond what the process had before
quickly = settings(
    max_examples=60, deadline=20_000, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _little_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MOST_MEGABYTES


def ends_well(call: Callable[[], object]) -> None:
    """The call returns, or raises one line for the user."""
    try:
        call()
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 2000


ODD = st.sampled_from(
    [None, True, -1, 0, 3, 10**12, 2**63, 10**400, 0.5, float("nan"), float("inf"), -1e308, "", "x", "/../../x",
     "\ud800", [], [[]], {}, {"a": 1}, [None], [1, "a"], {"a": {"b": [{}]}}]
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values inside ``value``."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


@st.composite
def exchanged(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with up to three of the values inside replaced or taken out."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([path for path in places(value) if path] or [("new",)]))
        inside = value
        for key in way:
            inside = inside[key]
        if isinstance(inside, dict) and draw(st.integers(0, 3)) == 0:
            inside.pop(last, None)
        else:
            inside[last] = copy.deepcopy(draw(ODD))
    return value


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` with some bytes replaced, left out, repeated or cut off."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        middle = draw(st.one_of(st.binary(max_size=20), st.just(content[start:end] * 2), st.sampled_from(
            [b"9" * 400, b"[" * 2000, b'{"a":' * 2000, b"NaN", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"-", b'"', b"null"]
        )))  # fmt: skip
        content = content[:start] + middle + draw(st.sampled_from([content[end:], b""]))
    return content


def text_files(*values: Any, lines: bool = False) -> st.SearchStrategy[bytes]:
    """JSON files that hold one of ``values``, or a line for each of them, with something wrong; and any bytes."""
    whole = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    wrong = st.sampled_from(values).flatmap(exchanged).map(lambda value: json.dumps(value).encode() + b"\n")
    return st.one_of(st.binary(max_size=200), changed(whole), wrong.map(lambda line: whole + line) if lines else wrong)


PROGRAM = {
    "versions": {"torch": "2"}, "git_commit": None, "started": "a", "ended": None, "seconds": 1.0, "resumed": []
}  # fmt: skip
EPOCH = {"epoch": 1, "loss": 1.0, "train_accuracy": 0.5, "learning_rate": 0.1, "images_per_second": 9.0, "seconds": 1.0}
TRIALS_STORED = trials_of(3)
TRAINING = {
    "format": 1, "command": "train", "status": "finished", "configuration": {"space": "darts", "channels": 2},
    **PROGRAM, "architecture": {}, "params": 1, "macs": 1, "hardware": {"device": "cpu"},
    "summary": {"epochs": 1, "best": EPOCH},
    "data": {"classes": ["a", "b"], "image_size": [8, 8], "fingerprint": "x", "name": "digits", "train_images": 5},
}  # fmt: skip
CELL = {"number": 1, "id": 0, "key": "k", "space": "darts", "genotype": "g", "scores": {"robust": 1.0}, "best": EPOCH}
RETRAINED = {
    "format": 1, "command": "retrain", "configuration": {}, "rungs": [1, 3], "cells": [CELL], "data": {"name": "digits"}
}  # fmt: skip
CORRELATED = {
    "format": 1, "command": "correlation", "configuration": {}, **PROGRAM,
    "seconds_alone": {"robust": 0.1, "snip": None},
}  # fmt: skip


@quickly
@given(content=text_files(RUN))
def test_manifest(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    (tmp_path / TRIALS).write_text(json.dumps(TRIALS_STORED[0]) + "\n")
    ends_well(lambda: read_run(tmp_path))


@settings(quickly, max_examples=15)
@given(content=text_files(RUN))
def test_the_page_of_whatever_can_be_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    (tmp_path / TRIALS).write_text(json.dumps(TRIALS_STORED[0]) + "\n")
    ends_well(lambda: write_report(tmp_path))


@quickly
@given(content=text_files(TRAINING, RETRAINED, CORRELATED))
def test_manifests_of_other_commands(content: bytes, tmp_path: Path) -> None:
    for path, read in (
        (Path("train") / CONFIG, read_training), (Path(FOLDER) / RETRAINING, read_retraining),
        (Path(MANIFEST), read_correlation),
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
        ends_well(lambda: read(tmp_path))  # noqa: B023


@quickly
@given(content=text_files(*TRIALS_STORED, lines=True))
def test_trials(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(RUN))
    (tmp_path / TRIALS).write_bytes(content)
    ends_well(lambda: read_run(tmp_path))
    with RunDirectory(tmp_path, get_space("darts")) as run:
        ends_well(run.read_trials)
    assert (tmp_path / TRIALS).read_bytes() == content


@quickly
@given(content=text_files(TRIALS_STORED[0]))
def test_best(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(RUN))
    (tmp_path / BEST).write_bytes(content)
    ends_well(lambda: read_run(tmp_path))


@quickly
@given(content=text_files({"key": "0" * 16, "attack": "PGD-7", "first": 0, "end": 2, "correct": [True, False],
                           "seconds": 0.5}, lines=True))  # fmt: skip
def test_samples_of_attacks(content: bytes, tmp_path: Path) -> None:
    (tmp_path / SAMPLES).write_bytes(content)

    def read() -> None:
        with SampleStore(tmp_path / SAMPLES, {}):
            pass

    ends_well(read)
    assert (tmp_path / SAMPLES).read_bytes() == content


@quickly
@given(content=text_files({"key": "k", "seed": 0, "scores": {"snip": 1.5}, "errors": {"zen": "e"},
                           "seconds": {"snip": 0.1}}, lines=True))  # fmt: skip
def test_scores_of_a_correlation(content: bytes, tmp_path: Path) -> None:
    (tmp_path / SCORES).write_bytes(content)
    ends_well(ScoreLog(tmp_path).read)


CELLS = [
    "DARTS_V2",
    str(get_space("darts").parse("DARTS_V2")),
    json.dumps(get_space("darts").parse("DARTS_V2").to_json()),
    get_space("darts").canonical(get_space("darts").parse("DARTS_V2")),
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|",
]


@settings(quickly, max_examples=200)
@given(
    text=st.one_of(
        st.text(max_size=200), st.sampled_from([cell.encode() for cell in CELLS]).flatmap(changed).map(
            lambda content: content.decode("utf-8", "surrogateescape")
        ),
    ),
    space=st.sampled_from(["darts", "nasbench201"]),
)  # fmt: skip
def test_genotypes(text: str, space: str) -> None:
    try:
        genotype = get_space(space).parse(text)
    except ValueError as error:
        assert len(str(error)) < 2000
    else:
        assert get_space(space).parse(get_space(space).format(genotype)) == genotype


@cache
def checkpoint() -> dict[str, Any]:
    """The content of a checkpoint, with what a training needs to go on."""
    architecture = Architecture(
        family="nasbench201", genotype=CELLS[-1], channels=2, layers=3, classes=("a", "b"), image_size=(8, 8)
    )
    with torch.random.fork_rng():
        weights = dict(architecture.build().state_dict())
    training = {"epochs": 1, "momenta": [None, torch.zeros(2)], "average": {"steps": 3, "own": dict(weights)}}
    facts = {"dataset": "digits", "history": [EPOCH], "configuration": {"seed": 0}}
    return Checkpoint(architecture=architecture, weights=weights, facts=facts, training=training).content()


def stored(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


ODD_TENSORS = st.sampled_from(
    [torch.ones(2, device="meta"), torch.ones(2, dtype=torch.complex64), torch.eye(2).to_sparse(), torch.tensor([]),
     torch.zeros(1).expand(10**9), torch.full((2,), float("nan")), torch.ones(2, dtype=torch.bool)]
)  # fmt: skip


@st.composite
def torch_files(draw: st.DrawFn, value: Any) -> bytes:
    if draw(st.booleans()):
        return draw(st.one_of(st.binary(max_size=100), changed(stored(value))))
    wrong = draw(exchanged(value))
    if draw(st.booleans()) and isinstance(wrong.get("weights"), dict):
        wrong["weights"][draw(st.sampled_from(sorted(value["weights"])))] = draw(ODD_TENSORS)
    return stored(wrong)


@pytest.mark.filterwarnings("ignore:.*[Ss]parse")
@quickly
@given(data=st.data())
def test_checkpoints(data: st.DataObject, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(data.draw(torch_files(checkpoint())))
    ends_well(lambda: read_checkpoint(tmp_path / "model.pt").classifier())


@quickly
@given(data=st.data())
def test_states_of_searchers(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / STATE
    write_state(path, {"weight": torch.zeros(3), "asks": 3}, 10, "abc")
    content = torch.load(path, weights_only=True)
    path.write_bytes(data.draw(torch_files(content)))
    ends_well(lambda: read_state(path))


@quickly
@given(
    content=st.one_of(
        st.binary(max_size=200),
        changed(b"cell: DARTS_V2\nepochs: 3\nepsilon: 8/255\nmilestones: [1, 2]\nflip: true\nimages: null\n"),
        text_files({"cell": "DARTS_V2", "epochs": 3, "epsilon": "8/255", "milestones": [1], "flip": True, "seed": 0}),
        st.sampled_from([b"a: &a [*a, *a]\n", b"seed: " + b"[" * 5000, b"- " * 3000, b"cell: !!python/object:os.x y"]),
    )
)  # fmt: skip
def test_files_of_options(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(content)

    def read() -> None:
        options = parse_options(["--config", str(tmp_path / "run.yaml")], "fuzz", "", [("training", TrainConfig)])
        TrainConfig(**{name: getattr(options, name) for name in TrainConfig.__dataclass_fields__})

    ends_well(read)


