"""How every command finds, reads and writes files.

Whatever the operating system refuses becomes a :class:`~nas.errors.UserError`: one line that names the path. Only
regular files are read, since a pipe or a device may never end. A file is written whole or not at all.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from nas.cli.bounds import flag
from nas.errors import Unwritable, UserError

MOST_TEXT = 2**28  # bytes of a file that is read as text at once
MOST_BYTES = 2**36  # bytes of any other file that is read at once, such as a checkpoint

Kind = Literal["file", "folder", "other"]


def as_path(name: str, value: Any) -> Path:
    """The path that the option ``name`` gives; a leading ``~`` or ``~user`` stands for the home folder.

    :raises UserError: ``value`` is not a path, is empty, or names the home folder of a user who does not exist.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(text := os.fspath(value), bytes):
        raise UserError(f"{flag(name)} must be a path, got {value!r:.60}")
    if not text or "\0" in text:
        raise UserError(f"{flag(name)} must be a path, got {'an empty text' if not text else repr(text)}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{flag(name)} {text}: there is no such user") from None


def kind(path: Path) -> Kind | None:
    """What stands at ``path``, symbolic links followed; None if nothing does.

    :raises UserError: the operating system does not tell, for instance because a folder may not be entered.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def unreadable(path: Path | str, error: Exception) -> UserError:
    """The error for a file that the operating system does not let us read."""
    return UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def open_regular(path: Path, most: int | None = None) -> BinaryIO | None:
    """The opened file; None if there is none. A pipe or a device is never waited for.

    :param most: the largest size in bytes that is accepted.
    :raises UserError: it cannot be read, is not a regular file, or is larger.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    found = os.fstat(opened)
    wrong = ""
    if stat.S_ISDIR(found.st_mode):
        wrong = "it is a folder, expected a file"
    elif not stat.S_ISREG(found.st_mode):
        wrong = "it is a pipe or a device, expected a file"
    elif most is not None and found.st_size > most:
        wrong = f"it has {found.st_size:,} bytes, expected at most {most:,}"
    if wrong:
        os.close(opened)
        raise UserError(f"{path} cannot be read: {wrong}")
    return os.fdopen(opened, "rb")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes | None:
    """The content of a regular file; None if there is none.

    :raises UserError: it cannot be read, or has more than ``most`` bytes.
    """
    file = open_regular(path, most)
    if file is None:
        return None
    try:
        with file:
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from None


def read_text(path: Path, most: int = MOST_TEXT) -> str | None:
    """The content of a regular file in UTF-8, without a byte order mark; None if there is no file.

    :raises UserError: it cannot be read, is not UTF-8, or has more than ``most`` bytes.
    """
    content = read_bytes(path, most)
    try:
        return None if content is None else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: byte {error.start} is {content[error.start]:#x}") from None  # type: ignore[index]


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turns the errors of the operating system inside into one line about ``path``.

    :raises Unwritable: the operating system refused.
    """
    try:
        yield
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error.strerror or error}") from None


def write(path: Path, content: bytes | str, check: Callable[[Path], object] | None = None) -> None:
    """Write the file, or replace it: whoever reads it sees the old content or the new one, never a part.

    The content first goes to a new file with a random name in the same folder, so that no link is followed and no file
    that happens to be there is touched.

    :param content: a text is written in UTF-8; lone surrogates are written as XML character references.
    :param check: called with the new file's path before it takes the place of the old one; what it raises stops that.
    :raises Unwritable: the operating system refused; the old file is as it was.
    """
    stored = content.encode("utf-8", "xmlcharrefreplace") if isinstance(content, str) else content
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp{path.suffix}")
    with writing(path):
        try:
            with open(temporary, "xb") as file:
                file.write(stored)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(temporary)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def check_free(*paths: Path) -> None:
    """For files that a command would write, where nothing shows that they are its own.

    :raises UserError: one of them exists, whatever it is.
    """
    for path in paths:
        if kind(path) is not None or path.is_symlink():
            raise UserError(
                f"{path} exists, was not written by this command, and would be replaced; pass another --out, or move it"
                " away"
            )


def make_folder(path: Path) -> None:
    """Create the folder, and those above it, where they do not exist.

    :raises Unwritable: the operating system refused.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Remove the file, if there is one.

    :raises Unwritable: the operating system refused.
    """
    with writing(path):
        path.unlink(missing_ok=True)
