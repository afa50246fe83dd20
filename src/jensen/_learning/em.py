"""EM derived from the model: latents take their optimal factors, parameters their best values, in one rising bound."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jensen._base.errors import JensenError
from jensen._conjugate.algebra import ConjugateModel, ConjugateTarget
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate.ascent import Ascent, State
from jensen._conjugate.coordinate.optima import elsewhere
from jensen._conjugate.coordinate.plated import PlatedAscent, ascent_for
from jensen._conjugate.coordinate.refusals import no_maximum
from jensen._conjugate.coordinate.solution import solution
from jensen._conjugate.coordinate.starts import random_start
from jensen._conjugate.svi import SVI
from jensen._core import Certificate, Estimates, Outcome, Progress, relayed
from jensen._core.algorithm import Run
from jensen._families.exponential import AtMode

FAR = 10.0
"""Change of a log scale from which on a failure is put down to the parameter's running away."""

LEFT = 1e-3
"""Nats that may be left to gain where a parameter goes to the edge of its range, as EM does ever more slowly."""

LAST_SWEEPS = 20
"""Sweeps over several blocks of latents at the parameters that an interrupted EM leaves."""

SYMMETRIC = (
    " The starting values are the same for all components, which EM would never tell apart: it was started from random "
    "responsibilities instead."
)

Values = dict[str, np.ndarray]


def run(
    cavi: CAVI,
    target: ConjugateTarget,
    initial: Mapping[str, np.ndarray],
    kinds: dict[str, str],
    close: Callable[[Values], ConjugateTarget],
    seed: int,
) -> Run:
    """L(q, θ) = E_q[log p(x, z; θ)] + H[q] raised block by block: q_j by its optimal factor, each θ_i by its mode.

    With one latent block q is the exact conditional, L the log likelihood after every E step, and this is EM (Dempster,
    Laird and Rubin 1977; Neal and Hinton 1998), with several parameters updated in turn (ECM, Meng and Rubin 1993);
    otherwise it is variational EM. `target` is the model with its parameters open, `close` gives it at known values.
    The gain of every half step is checked against the exact bound. It ends with the latents' own updates at θ.
    """
    rng = np.random.default_rng(seed)
    equal = _same_for_all(target.model, initial)
    initial = {} if equal else initial
    ascent = ascent_for(target.model, initial)
    written = partial(_so_far, target.model, close, kinds)
    state, converged, saddle, start = yield from _watched(cavi, ascent, target, initial, rng, written)
    values = parameter_values(target.model, state)
    known = close(values)
    exact = len(known.model.blocks) == 1
    estimates = Estimates(values, kinds, exact, Certificate(gain=_last_gain(state)))
    final, settled = yield from _expectation(cavi, known, state, rng, estimates)
    ascent_at, last = final
    status, left = cavi._status(target.model, state, converged, saddle), left_to_gain(np.asarray(state.history))
    far = None if converged or (saddle and not cavi.escape) else _runaway(target.model, start, state.naturals)
    if far is not None and left < LEFT:
        converged = True
        status = (
            f"After {state.sweeps} sweeps about {left:.1g} nats are left to gain: the bound levels off as '{far[0]}' "
            "goes to the edge of its range."
        )
    kind = "Exact EM" if exact else "Variational EM"
    return Outcome(
        solution(ascent_at, last, known),
        converged and settled,
        f"{kind} for {', '.join(map(repr, kinds))}. {status}{SYMMETRIC if equal else ''}",
        Certificate(elbo=last.elbo, sweeps=float(state.sweeps), saddle=saddle) | elsewhere(ascent_at, last, ())[0],
        estimates=estimates,
        target=known,
    )


def run_batches(
    svi: SVI,
    target: ConjugateTarget,
    initial: Mapping[str, np.ndarray],
    kinds: dict[str, str],
    close: Callable[[Values], ConjugateTarget],
    seed: int,
) -> Run:
    """EM by minibatches: the parameters' statistics take the steps of the global factors, exact sweeps follow.

    Cappé and Moulines (2009) for the steps; with B = N and ρ = 1 it is EM itself.
    """
    init = {} if _same_for_all(target.model, initial) else initial
    written, steps = partial(_so_far, target.model, close, kinds), svi.run(target, seed, init)
    found: Outcome = yield from relayed(
        steps, lambda item: replace(item, q=None if item.q is None else partial(written, item.q))
    )
    last = written(lambda: found.q)
    names = ", ".join(map(repr, kinds))
    kind = "EM" if last.estimates is not None and last.estimates.exact else "Variational EM"
    certificate = found.certificate | last.certificate
    status = f"{kind} by minibatches for {names}. {found.status}"
    return replace(last, converged=found.converged, status=status, certificate=certificate)


def _watched(
    cavi: CAVI,
    ascent: Ascent,
    target: ConjugateTarget,
    initial: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    written: Callable[[Any], Outcome],
) -> Generator[Progress, None, tuple[State, bool, bool, Values]]:
    """The climb and the parameters' start, a failure being put down to one that has run away where there is one."""
    start: Values | None = None
    last: Any = None

    def noted(item: Progress) -> Progress:
        nonlocal last
        last = item.q
        return replace(item, q=partial(written, last))

    try:
        state = ascent.given(rng, initial) if initial else cavi._started(ascent, rng)[0]
        start = {**parameter_values(target.model, state), **initial}
        climb = cavi.climbed(ascent, state, target, rng)
        return (*(yield from relayed(climb, noted)), start)
    except JensenError as error:
        away = None if last is None or start is None else _runaway(target.model, start, last().naturals)
        if away is None:
            raise
        raise no_maximum(*away) from error


def _so_far(
    model: ConjugateModel, close: Callable[[Values], ConjugateTarget], kinds: dict[str, str], q: Any
) -> Outcome:
    """The parameters that EM has reached, with the latents' factors at them."""
    naturals = q().naturals
    factors = {name: model.factor(name, natural) for name, natural in naturals.items()}
    values = {n: np.asarray(f.mode_value(), float) for n, f in factors.items() if isinstance(f, AtMode)}
    known = close(values)
    ascent = ascent_for(known.model)
    start: Any = {name: factors[name].mean_params() for name in known.model.blocks if name in factors}
    if not isinstance(ascent, PlatedAscent):
        start = {**random_start(known.model, np.random.default_rng(0), seeds=False), **start}
    state = ascent.begin(start)
    if len(known.model.blocks) > 1:
        state = ascent.advance(state, LAST_SWEEPS)
    exact = len(known.model.blocks) == 1
    estimates = Estimates(values, kinds, exact)
    return Outcome(
        solution(ascent, state, known), False, "", Certificate(elbo=state.elbo), estimates=estimates, target=known
    )


def _runaway(model: ConjugateModel, start: Values, naturals: Any) -> tuple[str, str, str] | None:
    """(parameter, position, where) of the scale that changed most, if by more than `FAR`."""
    worst: tuple[float, tuple[str, str, str]] | None = None
    for name, block in model.blocks.items():
        if not block.point or not ({"log", "logdet"} & set(block.shapes)) or "log1m" in block.shapes:
            continue
        factor = model.factor(name, naturals[name])
        assert isinstance(factor, AtMode)
        now = np.asarray(factor.mode_value())
        change = _scale(now, block.shapes) - _scale(start[name], block.shapes)
        change = np.where(np.isfinite(change), np.abs(change), np.inf)
        if change.max(initial=0.0) > FAR and (worst is None or change.max() > worst[0]):
            place = f" At position {tuple(map(int, np.argwhere(change == change.max())[0]))}." if change.ndim else ""
            worst = float(change.max()), (name, place, model.sites[name].where)
    return None if worst is None else worst[1]


def _scale(value: np.ndarray, shapes: Mapping[str, Any]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.linalg.slogdet(value)[1] if "logdet" in shapes else np.log(value)


def left_to_gain(bounds: np.ndarray) -> float:
    """What a sequence that falls short of its limit by c t⁻ᵖ still lacks, from its last half and the quarter before."""
    last = len(bounds) - 1
    if last < 8:
        return float("inf")
    late, early = bounds[last] - bounds[last // 2], bounds[last // 2] - bounds[last // 4]
    return float(late / (early / late - 1.0)) if early > 1.5 * late > 0 else float("inf")


def parameter_values(model: ConjugateModel, state: State) -> Values:
    """The parameters' values."""
    found = {}
    for name, block in model.blocks.items():
        if block.point:
            factor = model.factor(name, state.naturals[name])
            assert isinstance(factor, AtMode)
            found[name] = np.asarray(factor.mode_value(), float)
    return found


def _expectation(
    cavi: CAVI, known: ConjugateTarget, state: State, rng: np.random.Generator, estimates: Estimates
) -> Generator[Progress, None, tuple[tuple[Ascent, State], bool]]:
    """The latents' factors at these parameters, to convergence from where EM left them."""
    ascent = ascent_for(known.model)
    start = {name: state.moments[name] for name in known.model.blocks if name in state.moments}
    if not isinstance(ascent, PlatedAscent):
        start = {**random_start(known.model, rng, seeds=False), **start}
    begun = ascent.begin(start)
    if len(known.model.blocks) == 1:  # the exact conditional, from anywhere
        yield Progress("ascent", state.sweeps + 1, begun.elbo)
        return (ascent, begun), True
    climb = cavi._to_convergence(ascent, begun, known)

    def after(item: Progress) -> Progress:
        return replace(item, step=item.step + state.sweeps, q=partial(_at_estimates, item.q, known, estimates))

    end, settled = yield from relayed(climb, after)
    return (ascent, end), settled


def _at_estimates(q: Any, known: ConjugateTarget, estimates: Estimates) -> Outcome:
    return Outcome(q(), False, "", estimates=estimates, target=known)


def _same_for_all(model: ConjugateModel, initial: Mapping[str, np.ndarray]) -> bool:
    """Whether the start treats the values of a discrete latent alike: every array is constant along its first axis."""
    sizes = {len(site.values) for site in model.sites.values() if site.values is not None}
    arrays = [np.asarray(value) for value in initial.values() if np.ndim(value) and np.shape(value)[0] in sizes]
    return bool(arrays) and all(np.ptp(array, axis=0).max() == 0 for array in arrays)


def _last_gain(state: State) -> float:
    return state.history[-1] - state.history[-2] if len(state.history) > 1 else 0.0
