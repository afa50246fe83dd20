"""Whether a program is the same at every run: a random number, a clock or a state inside it would be frozen.

JAX runs the Python code of a model once and keeps what it saw. The program is therefore traced several times before a
fit and once after it, and the traces are compared equation by equation; nothing is compiled.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from jensen._base.errors import ModelError
from jensen._math.precision import Precision, working
from jensen._program.contract import AbstractProgram
from jensen._program.discarded_results import refuse_discarded
from jensen._program.programs import as_program
from jensen._program.same_program import difference
from jensen._program.site_watch import moved
from jensen._program.tracing import REMEDY, Traced, Tracer, arguments_of

RUNS = 3
"""Traces before the fit: a state may change at every second or third run only."""
LARGE = 10_000_000
"""Constants of a trace from which on it is not kept for the next fit."""
_KNOWN: "weakref.WeakKeyDictionary[Any, dict[Any, tuple[Any, Any]]]" = weakref.WeakKeyDictionary()
"""Under each model: what it was traced for -> what stands for it now, and its trace."""


def repeatable(model: Any, data: Any, precision: Precision, evaluable: bool = True) -> tuple[Any, Callable[[], None]]:
    """The model, and a function that raises if it is another program by then. Raises if it is not the same twice.

    A model that cannot be traced here is left to its analysis, which says why. With `evaluable=False` nothing at all is
    compiled: a random number of `numpyro.prng_key` may then pass, as only its values show whether it matters.
    """
    if not as_program(model).traced:
        return _repeatable_outside(model, data, precision)
    trace = Tracer(model, data, precision)
    try:
        first = trace()
    except Exception:  # the analysis meets it again
        return model, lambda: None
    known = _known(model)
    stand_in, before = known.get(trace.key, (None, None))
    if before is None or _apart(before, first):
        for _ in range(RUNS - 1):
            trace.compare(first)
        trace.check_plates()
        refuse_discarded(first.closed.jaxpr)
        stand_in = trace.rewritten(model if before is None else as_program(model).again())
        stand_in = None if stand_in is model else stand_in
        if evaluable:
            trace.check_key(first)
            if sum(np.size(constant) for constant in first.closed.consts) < LARGE:
                known[trace.key] = (stand_in, first)
    return stand_in or model, lambda: trace.compare(first)


def _known(model: Any) -> dict[Any, Any]:
    try:
        return _KNOWN.setdefault(model, {})
    except TypeError:  # not weakly referable or not hashable
        return {}


def _apart(before: Traced, now: Traced) -> bool:
    return before.sites != now.sites or difference(before.closed, now.closed) is not None


def _repeatable_outside(model: AbstractProgram, data: Any, precision: Precision) -> tuple[Any, Callable[[], None]]:
    """The same for a log density outside JAX: one value, and after the fit as many as a state of period 4 takes."""
    sites = model.latents({})

    def value() -> float:
        with working(precision):
            latent = {site.name: np.asarray(moved(site.support, site.shape, 0.7)) for site in sites}
        return sum(float(np.sum(term)) for term in model.log_joint(latent, arguments_of(data, precision)).values())

    try:
        first = value()
    except Exception:
        return model, lambda: None

    def check_again() -> None:
        for now in (value() for _ in range(4)):
            if now != first and not (np.isnan(now) and np.isnan(first)):
                raise ModelError(
                    f"The log density is not deterministic: it gave {first!r} and after the fit {now!r}.",
                    f"In {model.name}.",
                    REMEDY,
                )

    return model, check_again
