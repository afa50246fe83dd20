"""Densities of counts and categories, in nats."""

import numpy as np
import numpyro.distributions as dist
from jax.nn import log_softmax, softplus
from scipy.special import log_softmax as host_log_softmax

from jensen._conjugate.algebra.arrays import is_concrete, namespace
from jensen._conjugate.algebra.densities.registry import density
from jensen._conjugate.algebra.densities.scalars import log_gamma
from jensen._conjugate.algebra.movement import indexed
from jensen._conjugate.algebra.parts import log_of_parts
from jensen._conjugate.algebra.value import Opaque, Value, describe, known_function, log, ranked, total

LOWEST = -1e10


def log_probability(probs: Value) -> Value:
    """log p, with a large negative number for a known probability of zero: 0 · -inf would be NaN."""
    logs = log(probs)
    return known_function(logs, lambda xp, a: xp.maximum(a, LOWEST), "") if logs.is_known else logs


def log_choose(n: Value, k: Value) -> Value:
    """log of the binomial coefficient."""
    what = "a count"
    return log_gamma(n + 1.0, what) - log_gamma(k + 1.0, what) - log_gamma(n - k + 1.0, what)


def log_odds_normaliser(logits: Value) -> Value:
    """log(1 + exp(logits)), for logits without latents."""
    return known_function(
        logits, lambda xp, a: np.logaddexp(0.0, a) if xp is np else softplus(a), "log(1 + exp(.)) of the logits"
    )


@density(dist.BernoulliProbs, "probs")
def bernoulli_probs(x: Value, probs: Value) -> Value:
    """x log p + (1 - x) log(1 - p)."""
    return x * log_probability(probs) + (1.0 - x) * log_probability(1.0 - probs)


@density(dist.BernoulliLogits, "logits")
def bernoulli_logits(x: Value, logits: Value) -> Value:
    """x l - log(1 + exp l)."""
    return x * logits - log_odds_normaliser(logits)


@density(dist.BinomialProbs, "probs", "total_count")
def binomial_probs(x: Value, probs: Value, total_count: Value) -> Value:
    """log C(n, x) + x log p + (n - x) log(1 - p)."""
    return log_choose(total_count, x) + x * log_probability(probs) + (total_count - x) * log_probability(1.0 - probs)


@density(dist.BinomialLogits, "logits", "total_count")
def binomial_logits(x: Value, logits: Value, total_count: Value) -> Value:
    """log C(n, x) + x l - n log(1 + exp l)."""
    return log_choose(total_count, x) + x * logits - total_count * log_odds_normaliser(logits)


@density(dist.GeometricProbs, "probs")
def geometric_probs(x: Value, probs: Value) -> Value:
    """log p + x log(1 - p): failures before the first success."""
    return log_probability(probs) + x * log_probability(1.0 - probs)


@density(dist.NegativeBinomialProbs, "total_count", "probs")
def negative_binomial(x: Value, total_count: Value, probs: Value) -> Value:
    """log C(x + n - 1, x) + n log(1 - p) + x log p, for a known count n."""
    what = "the total count of a NegativeBinomial density"
    choose = log_gamma(x + total_count, what) - log_gamma(total_count, what) - log_gamma(x + 1.0, "a count")
    return choose + total_count * log_probability(1.0 - probs) + x * log_probability(probs)


@density(dist.Poisson, "rate")
def poisson(x: Value, rate: Value) -> Value:
    """x log r - r - log x!."""
    return x * log_of_parts(rate) - rate - log_gamma(x + 1.0, "the value of a Poisson site")


@density(dist.CategoricalProbs, "probs")
def categorical_probs(x: Value, probs: Value) -> Value:
    """log p[x]."""
    logs = log_probability(probs)
    return picked(logs, x) if logs.why is None or probs.why is not None else log_of_parts(picked(probs, x))


@density(dist.CategoricalLogits, "logits")
def categorical_logits(x: Value, logits: Value) -> Value:
    """l[x] - logsumexp l, for logits without latents."""
    if not logits.is_known:
        why = logits.why or f"a softmax of the latent expression [{describe(logits)}]"
        return Value(np.broadcast_shapes(logits.shape[:-1], x.shape), why=why)
    full = logits.full()
    normalised = host_log_softmax(full, axis=-1) if is_concrete(full) else log_softmax(full, axis=-1)
    return picked(Value(logits.shape, known=normalised), x)


@density(dist.DiscreteUniform, "low", "high")
def discrete_uniform(x: Value, low: Value, high: Value) -> Value:
    """-log(high - low + 1)."""
    del x
    return known_function(high - low, lambda xp, a: -xp.log(a + 1.0), "a bound of a DiscreteUniform density")


@density(dist.MultinomialProbs, "probs", "total_count")
def multinomial_probs(x: Value, probs: Value, total_count: Value) -> Value:
    """log n! - Σ log x_k! + Σ x_k log p_k."""
    what = "a count"
    constant = log_gamma(total_count + 1.0, what) - total(log_gamma(x + 1.0, what), [-1])
    logs = log_probability(probs)
    return total(x * (logs if logs.why is None else log_of_parts(probs)), [-1]) + constant


@density(dist.Dirichlet, "concentration")
def dirichlet(x: Value, concentration: Value) -> Value:
    """Σ (a_k - 1) log x_k + log Γ(Σ a_k) - Σ log Γ(a_k)."""
    what = "the concentration of a Dirichlet density"
    whole = Value(concentration.shape[:-1], why=concentration.why)
    if concentration.why is None:
        whole = total(ranked(concentration, concentration.shape), [-1])
    constant = log_gamma(whole, what) - total(log_gamma(concentration, what), [-1])
    return total((concentration - 1.0) * log(x), [-1]) + constant


def picked(table: Value, index: Value) -> Value:
    """table[..., index], the index broadcasting against the leading axes of the table."""
    shape = np.broadcast_shapes(table.shape[:-1], index.shape)
    if table.why is not None or index.why is not None:
        return Value(shape, why=table.why or index.why)
    if not index.is_known:
        raise Opaque(f"the category [{describe(index)}] is a continuous latent")
    wide = ranked(table, (*shape, table.shape[-1]))
    place = ranked(index, shape).known
    if wide.is_known:
        return _picked_known(wide, place, shape)
    rank = len(shape)
    axes = [np.arange(n).reshape([-1 if i == axis else 1 for i in range(rank)]) for axis, n in enumerate(shape)]
    return indexed(wide, shape, [*axes, place.astype(int) if is_concrete(place) else place])


def _picked_known(table: Value, place: np.ndarray, shape: tuple[int, ...]) -> Value:
    """The same on a compact known table: only the axes that vary are ever spread out."""
    array = table.known
    if array.shape[-1] == 1:
        return Value(shape, known=array[..., 0])
    lead = np.broadcast_shapes(array.shape[:-1], place.shape)
    xp = namespace(array, place)
    spread = xp.broadcast_to(array, (*lead, array.shape[-1]))
    return Value(
        shape, known=xp.take_along_axis(spread, xp.broadcast_to(place, lead)[..., None].astype(int), -1)[..., 0]
    )
