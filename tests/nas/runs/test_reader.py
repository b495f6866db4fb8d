"""A run that is looked at: read by the same rules as one that is gone on with."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.runs.directory import TRIALS, read_best
from nas.runs.reader import read_run
from nas.runs.trials import stored_trial
from tests.nas.runs.stored import (
    CORRUPT,
    SPACE,
    TRIALS_OF_EACH_KIND,
    good,
    read,
    trial,
    write,
)

# What somebody who only looks at a run may pass over, since nothing is gone on with.
HARMLESS = {"a field missing", "a score is not finite", "params are null", "genotype cannot be read"}
HARMLESS |= {"key of another genotype"}


@pytest.mark.parametrize("line", CORRUPT.values(), ids=CORRUPT.keys())
def test_a_run_that_is_looked_at_is_read_by_the_same_rules(
    line: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    lines = (write(tmp_path, [trial(5), trial(6)]) / TRIALS).read_text().splitlines()
    (tmp_path / TRIALS).write_bytes("\n".join([lines[0], line, lines[1], ""]).encode(errors="surrogateescape"))
    if request.node.callspec.id in HARMLESS:
        assert [each.id for each in read_run(tmp_path).trials] == [1, 5, 6]
        return
    with pytest.raises(UserError) as seen:
        read_run(tmp_path)
    with pytest.raises(UserError) as resumed:
        read(tmp_path)
    assert str(seen.value).startswith(f"{tmp_path / TRIALS} line 2 is not a trial: ")
    assert str(seen.value) == str(resumed.value).replace("a finite number", "a number")


def test_what_is_written_is_what_is_looked_at(tmp_path: Path) -> None:
    written = [dataclasses.replace(each, genotype=SPACE.format(each.genotype)) for each in TRIALS_OF_EACH_KIND]
    assert list(read_run(write(tmp_path, TRIALS_OF_EACH_KIND[::-1])).trials) == written


def test_a_torn_last_line_is_left_to_whoever_goes_on_with_the_run(tmp_path: Path) -> None:
    content = (write(tmp_path, TRIALS_OF_EACH_KIND) / TRIALS).read_bytes()
    whole = content[:-1].rfind(b"\n") + 1
    assert not read_run(tmp_path).torn
    for cut in (whole + 1, len(content) - 1):
        (tmp_path / TRIALS).write_bytes(content[:cut])
        record = read_run(tmp_path)
        assert record.torn and [each.id for each in record.trials] == [0, 1, 2]
        assert (tmp_path / TRIALS).read_bytes() == content[:cut]


def test_a_trial_of_few_keys_can_be_looked_at() -> None:
    read = stored_trial({"id": 3, "status": "ok", "key": "a", "scores": {"x": None, "y": 2}})
    assert (read.id, read.key, read.genotype, read.seconds, read.error) == (3, "a", "a", 0.0, None)
    assert math.isnan(read.scores["x"]) and read.scores["y"] == 2.0 and type(read.scores["y"]) is float
    for missing in ("id", "status"):
        with pytest.raises(ValueError, match=f"{missing} is missing"):
            stored_trial({name: value for name, value in good().items() if name != missing})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "best.json is not JSON"),
        ("7", "best.json holds 7, expected an object"),
        ("{}", "best.json is not the best candidate of a search: id is missing"),
        ('{"id": 1, "genotype": 5}', "best.json is not the best candidate of a search: genotype 5, expected a text"),
    ],
)
def test_a_bad_best_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    assert read_best(write(tmp_path, [])) is None
    (tmp_path / "best.json").write_text(content)
    for use in (read_best, read_run):
        with pytest.raises(UserError, match=message) as error:
            use(tmp_path)
        assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
