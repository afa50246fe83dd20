"""Exception tree. A message is three sentences: what happened, where, what to do.

JensenError
├── ModelError      the model cannot be analysed or evaluated (also a ValueError)
├── DataError       the data do not fit the model (also a ValueError)
├── OptionError     an unknown method or option, or a value out of range (also a ValueError)
├── SavedFitError   a file is not a readable saved fit (also an OSError)
├── UndefinedError  the quantity is not defined for this fit (also a ValueError)
└── MissingExtraError  a package that only some need is not installed (also an ImportError)
"""

import difflib
from collections.abc import Iterable


class JensenError(Exception):
    """Base of every error that jensen raises on purpose.

    `what`, `where` and `remedy` hold the three sentences separately, for programs that show them.
    """

    what: str
    where: str
    remedy: str

    def __init__(self, what: str, where: str = "", remedy: str = ""):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(" ".join(part.strip() for part in (what, where, remedy) if part))


class ModelError(JensenError, ValueError):
    """The model itself cannot be analysed or evaluated."""


class ParameterSites(ModelError):
    """The model has `numpyro.param` sites, which the analysis at hand leaves to `jensen._learning`."""

    def __init__(self, name: str, where: str):
        super().__init__(
            f"The model has a param site '{name}', which this method does not learn.",
            where,
            "Use jn.fit with method='auto', 'cavi', 'svi', 'advi', 'bbvi', 'hvm' or 'amortised', which maximise the "
            "bound over it; or give it a prior with numpyro.sample.",
        )


class DataError(JensenError, ValueError):
    """The data do not fit the model's arguments, shapes or domain."""


class OptionError(JensenError, ValueError):
    """An unknown method or option, or an option's value out of its range."""


class SavedFitError(JensenError, OSError):
    """The file cannot be read as a saved fit."""


class UndefinedError(JensenError, ValueError):
    """The quantity asked for is not defined for this model or fit."""


class MissingExtraError(JensenError, ImportError):
    """A package that one of jensen's extras brings is not installed; the message is the command that installs it."""


class LongFitWarning(UserWarning):
    """A fit that is about to begin takes more than ten minutes of processor time, as reckoned from its program."""


class UntrustedWarning(UserWarning):
    """Numbers were read from a fit that is untrusted, or was interrupted; once for each fit.

    `warnings.simplefilter("ignore", jn.UntrustedWarning)` silences it, `fit.check()` says why.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence for a name that is not among the known ones: the closest of them, if any is close, and their list.

    >>> nearest("lapalce", ["laplace", "advi"])
    "Did you mean 'laplace'? Known: advi, laplace."
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Known: {', '.join(known) or 'none'}."
