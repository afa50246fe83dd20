"""Compiled programs on disk: the second process that fits a model does not compile it again.

JAX's persistent compilation cache, in the user's cache folder, is on from the import of jensen. It stays as it is where
JAX has one already, where the environment says `JENSEN_CACHE=off`, and where JAX was imported before jensen: XLA then
writes two lines about the processor to standard error for every program that it reads, and only a setting made before
JAX is imported keeps it from doing so (`TF_CPP_MIN_LOG_LEVEL=3`; what jensen sets, and with it XLA's other remarks).
`JENSEN_CACHE=FOLDER` chooses the folder.

Example:
    >>> import jensen as jn
    >>> jn.cache.disable()                # for this process; `jn.cache.enable(folder)` turns it on, whatever came first
    >>> jn.cache.folder() is None
    True
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

VARIABLE, LOUDNESS, SILENT = "JENSEN_CACHE", "TF_CPP_MIN_LOG_LEVEL", "3"
WORTH, LARGEST = 0.02, 1_000_000_000
"""Seconds of compilation from which on a program is kept; bytes beyond which the programs read longest ago go."""


if "jax" not in sys.modules and os.environ.get(VARIABLE) != "off":  # this module is the first that jensen imports
    os.environ.setdefault(LOUDNESS, SILENT)
_QUIET = os.environ.get(LOUDNESS) == SILENT


def start() -> None:
    """After JAX is imported: the default."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted != "off" and (_QUIET or wanted) and not _jax().jax_compilation_cache_dir:
        enable(wanted or None)


def folder() -> str | None:
    """Where compiled programs are kept; `None` where they are not."""
    return _jax().jax_compilation_cache_dir


def enable(path: str | os.PathLike[str] | None = None) -> None:
    """Keep compiled programs in a folder, by default `jensen/programs` in the user's cache folder.

    A folder that cannot be made or written to leaves the cache off.
    """
    chosen = Path(path) if path is not None else _user_folder() / "jensen" / "programs"
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        _trim(chosen)
    except OSError:
        return
    if os.access(chosen, os.W_OK):
        _set(str(chosen))


def disable() -> None:
    """Compile anew in every process."""
    _set(None)


def _set(path: str | None) -> None:
    from jax.experimental.compilation_cache import compilation_cache

    config = _jax()
    config.update("jax_compilation_cache_dir", path)
    if path:
        config.update("jax_persistent_cache_min_compile_time_secs", WORTH)
        config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()


def _jax() -> Any:
    import jax

    return jax.config


def _user_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _trim(where: Path) -> None:
    """Remove the programs read longest ago where all of them together are too large."""
    files = [(entry.stat(), entry.path) for entry in os.scandir(where) if entry.is_file()]
    total = sum(stat.st_size for stat, _ in files)
    if total <= LARGEST:
        return
    for stat, path in sorted(files, key=lambda one: one[0].st_atime):
        with contextlib.suppress(OSError):  # another process may have removed it
            os.unlink(path)
        total -= stat.st_size
        if total <= LARGEST // 2:
            return
