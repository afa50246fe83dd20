"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike


@contextlib.contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` at the end, or is removed where something went wrong.

    The file is made in the same folder, written to the disk, and renamed: whoever reads `path` finds the old file or
    the new one, also after a crash. A link is followed and stays a link; the mode of an old file is kept. Pipes and
    devices are written to as they are. An OSError names `path`.
    """
    try:
        found = os.stat(path) if os.path.exists(path) else None
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if found is not None and not stat.S_ISREG(found.st_mode):
            yield Path(path)
            return
        target = Path(os.path.realpath(path))
        if found is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        place = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            _made(place, found)
            yield place
            _to_disk(place)
            os.replace(place, target)
        except BaseException:
            with contextlib.suppress(OSError):
                place.unlink()
            raise
        with contextlib.suppress(OSError):  # not every system lets a folder be opened
            _to_disk(target.parent)
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


def _made(place: Path, old: os.stat_result | None) -> None:
    """An empty file with the mode (and, where allowed, the owner) of the old one, or what the user's umask leaves."""
    handle = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        if old is not None and hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):
                os.fchown(handle, old.st_uid, old.st_gid)
            os.fchmod(handle, stat.S_IMODE(old.st_mode))
    finally:
        os.close(handle)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
