"""Files as commands find, read and write them: whatever the operating system refuses is one line."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import pytest

from nas.errors import Unwritable, UserError
from nas.files import (
    as_path,
    kind,
    make_folder,
    open_regular,
    read_bytes,
    read_text,
    remove,
    write,
)

TOO_LONG = "n" * 256


def test_a_path_has_its_home_folder_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("out", "~/x") == tmp_path / "x"
    assert as_path("out", Path("~")) == tmp_path
    assert as_path("out", "a/~") == Path("a/~")


@pytest.mark.parametrize("value", ["", "a\0b", 3, None, b"x", "~no-such-user-here/x"])
def test_what_is_no_path_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"^--data-dir "):
        as_path("data_dir", value)


def test_the_kind_of_what_stands_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    names = ("file", "pipe", "link", "absent", "file/below", ".")
    assert [kind(tmp_path / name) for name in names] == ["file", "other", None, None, None, "folder"]


@pytest.mark.parametrize("read", [kind, open_regular, read_bytes, read_text])
@pytest.mark.parametrize("name", [TOO_LONG, "loop", "a\0b"])
def test_what_cannot_be_read_is_one_line(read: object, name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / name)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "."])
def test_only_regular_files_are_read(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot be read: it is a (pipe or a device|folder), expected a file"):
        read_bytes(tmp_path / name)


def test_a_file_larger_than_the_bound_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"0" * 11)
    with pytest.raises(UserError, match="it has 11 bytes, expected at most 10"):
        read_bytes(tmp_path / "large", 10)


def test_text_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfx")
    (tmp_path / "latin").write_bytes(b"ab\xe9")
    assert read_text(tmp_path / "marked") == "x"
    assert read_text(tmp_path / "absent") is None
    with pytest.raises(UserError, match="not text in UTF-8: byte 2 is 0xe9"):
        read_text(tmp_path / "latin")


def test_a_file_is_replaced_whole_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "file", "ab\ud800")
    assert (tmp_path / "file").read_bytes() == b"ab&#55296;"
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) & stat.S_IRUSR
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere", "file"]


def test_a_check_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    def check(path: Path) -> None:
        assert path.read_bytes() == b"new" and path.suffix == ".bin"
        raise RuntimeError("wrong")

    (tmp_path / "a.bin").write_text("old")
    with pytest.raises(RuntimeError, match="wrong"):
        write(tmp_path / "a.bin", b"new", check)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unwritable, match=re.escape(f"{tmp_path / 'a'} cannot be written: No space left on device")):
        write(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_folders_in_the_way_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for change in (lambda: write(tmp_path / "folder", "x"), lambda: make_folder(tmp_path / "file" / "below"),
                   lambda: remove(tmp_path / "folder"), lambda: make_folder(tmp_path / TOO_LONG)):  # fmt: skip
        with pytest.raises(Unwritable, match="cannot be written"):
            change()
    remove(tmp_path / "absent")
