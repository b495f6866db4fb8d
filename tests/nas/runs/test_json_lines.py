"""Files of JSON lines: what a killed process can have left at the end, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.errors import UserError
from nas.runs import json_lines
from nas.runs.json_lines import JsonLines, locked

RECORDS: list[dict[str, Any]] = [{"id": 0, "text": 'a "quoted" \\ ü'}, {"id": 1, "scores": {"a": [1.5, None]}}]


def lines_in(path: Path) -> JsonLines:
    return JsonLines(path, "not a record", first="id")


def written(path: Path) -> bytes:
    lines = lines_in(path)
    for record in RECORDS:
        lines.append(record)
    lines.close()
    return path.read_bytes()


def test_wherever_the_last_line_was_cut_it_is_skipped_and_then_removed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    content = written(path)
    whole = content.index(b"\n") + 1
    for cut in range(len(content) - 1):
        path.write_bytes(content[:cut])
        lines, kept = lines_in(path), int(cut >= whole)
        assert [record for _, record in lines.read(dict)] == RECORDS[:kept]
        assert lines.torn == (cut not in (0, whole)) and path.read_bytes() == content[:cut]
        for record in RECORDS[kept:]:
            lines.append(record)
        lines.close()
        assert path.read_bytes() == content, cut


@pytest.mark.parametrize(
    "tail",
    [
        b"junk " * 10_000,
        b'{"id": 2, "text": "x"}\r{"id": 3}\r',
        b'[{"id": 2}]',
        b'{"key": "of another file"',
        b'{"id":2',
        b'{"id": 2, "text": "\xc3\xbc',
        b'{"id": 2, "text": "\x00',
        b'{"id": 2}; rm',
        b"\0" * 512,
        b"{" * 5000,
        b'{"id": "' + b"x" * 3000,
    ],
    ids=lambda tail: repr(tail[:20]),
)
@pytest.mark.parametrize("before", [0, 1])
def test_another_end_is_refused_and_left_alone(
    tail: bytes, before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 2000 if tail.startswith(b'{"id": "') else 10**6)
    path = tmp_path / "lines"
    content = b"".join(written(path).splitlines(keepends=True)[:before]) + tail
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"lines line {before + 1} is not a record: ") as error:
        list(lines_in(path).read(dict))
    assert "\n" not in str(error.value) and path.read_bytes() == content


def test_a_line_too_long_to_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 100)
    path = tmp_path / "lines"
    content = written(path)
    with pytest.raises(UserError, match="a line of .*lines has at most 100 bytes, got 112"):
        lines_in(path).append({"id": 2, "text": "x" * 90})
    assert path.read_bytes() == content
    path.write_text(json.dumps({"id": 2, "text": "x" * 90}) + "\n")
    with pytest.raises(UserError, match="line 1 is not a record: it is longer than 100 bytes"):
        list(lines_in(path).read(dict))


def test_a_file_with_content_is_not_taken_for_a_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("mine")
    with pytest.raises(UserError, match=r"\.lock holds something, expected an empty file that serves as a lock"):
        locked(tmp_path / ".lock", "the run")
    assert (tmp_path / ".lock").read_text() == "mine"
