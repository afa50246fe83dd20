"""A warning that travels with the numbers of a fit that is not to be trusted."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jensen._base.errors import UntrustedWarning

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
_OWN = (f"{Path(__file__).parents[1]}{os.sep}", contextlib.__file__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings about fits: whoever asks shows the verdict beside the numbers. Works as a decorator, too."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def caution(fit: Any) -> None:
    """Warn, once for each fit and at the line that asked, where the fit is untrusted or was interrupted."""
    if _QUIET.get() or "_cautioned" in vars(fit):
        return
    report = fit.check()
    vars(fit)["_cautioned"] = True
    interrupted = fit.outcome.certificate.interrupted
    if report.verdict == "untrusted" or interrupted:
        what = "was interrupted" if interrupted else "is untrusted"
        also = " and untrusted" if interrupted and report.verdict == "untrusted" else ""
        text = f"This fit {what}{also}. {report.reasons[0]} {report.remedy or 'Let the fit run to its end.'}"
        warnings.warn(text, UntrustedWarning, stacklevel=users_line())


def users_line() -> int:
    """The `stacklevel` of the innermost line that is not jensen's own, as seen from `caution`."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        level, frame = level + 1, frame.f_back
    return level
