"""The hierarchical variational model as a family: mean-field factors whose parameters are themselves drawn."""

from typing import Any, Self, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.errors import OptionError
from jensen._base.typing import Array, Flat, Latent, PRNGKey
from jensen._core import AbstractDensity, AbstractFamily, Draw, total
from jensen._core.family import stopped
from jensen._families import Mixture, Stratum
from jensen._families.native import Product
from jensen._hierarchical.family.auxiliary import AbstractAuxiliary
from jensen._hierarchical.family.by_row import AbstractRowPrior
from jensen._hierarchical.family.features import SHARES, drawn_leaf, expansion, features, with_drawn_leaf
from jensen._hierarchical.family.row_auxiliary import AbstractRowAuxiliary

PRIOR, MARGINAL = "prior of λ", "log q(z)"
CHOICE, REVERSE = "component of λ", "components of r"


class Hierarchical(AbstractFamily):
    """q(z; θ) = ∫ q(ψ; θ) Π_i q(z_i | λ_i) dψ, λ = λ₀ + c ∘ ψ: latents that depend on each other through λ.

    λ holds the leaf that places each factor (its mean, logits or log rate); the factors' other leaves are trained as
    they are. λ₀ and c are where and how widely the fit began, in units of the factors' own Fisher information.

    `log_prob` of a draw is an upper bound on log q(z) in the mean. With `importance` = 0 it is
    log q(ψ) + log q(z | λ) - log r(ψ | z; φ) (Ranganath, Tran and Blei 2016, equation 5); with K > 0 draws ψ_1..ψ_K
    of r beside the ψ_0 that z came from, log 1/(K+1) Σ_k q(z | λ_k) q(ψ_k) / r(ψ_k | z) (Sobolev and Vetrov 2019,
    equation 6), which falls to log q(z) as K grows. ψ is always reparameterised, z where it can be and is asked to;
    the rest of z is scored given λ, each site against its own terms and those terms of log r that see it.

    Attributes:
        likelihood: the factors q(z_i | λ_i), placed at λ₀. scale: site -> c.
        prior: a density over ψ ∈ R^D. auxiliary: r(ψ | z; φ). importance: K.
    """

    likelihood: Product
    scale: dict[str, Array]
    prior: Any
    auxiliary: AbstractAuxiliary
    importance: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        if isinstance(self.importance, bool) or self.importance < 0:
            raise OptionError(
                f"importance must be a whole number of at least 0, got {self.importance!r}.",
                "Option: importance.",
                "0 is the hierarchical bound; each further draw tightens it.",
            )

    @property
    def sites(self) -> list[str]:
        """Sites in the order in which λ lists them."""
        return sorted(self.likelihood.factors)

    @property
    def dim(self) -> int:
        """D, the entries of λ."""
        return sum(int(np.size(drawn_leaf(factor))) for factor in self.likelihood.factors.values())

    # ---- the variational model ---------------------------------------------------------------------------------

    def parameters(self, point: Flat) -> dict[str, Array]:
        """λ by site."""
        out, start = {}, 0
        for name in self.sites:
            middle = stopped(drawn_leaf(self.likelihood.factors[name]))
            size = int(np.prod(jnp.shape(middle), dtype=int))
            part = point[start : start + size].reshape(jnp.shape(middle))
            out[name] = middle + stopped(self.scale[name]) * part
            start += size
        return out

    def given(self, point: Flat) -> Product:
        """Π_i q(z_i | λ_i) at λ = λ₀ + c ∘ ψ."""
        places = self.parameters(point)
        factors = {n: with_drawn_leaf(f, places[n]) for n, f in self.likelihood.factors.items()}
        return Product(factors, self.likelihood.weights)

    def at(self, batch: Any) -> Self:
        """The rows of a batch, where λ is row by row."""
        if batch is None:
            return self
        axes = dict(batch.axes)
        scale = {name: jnp.take(c, batch.rows, axis=axes[name]) for name, c in self.scale.items()}
        parts = self.likelihood.at(batch), scale, self.prior.at(batch), self.auxiliary.at(batch)
        return type(self)(*parts, self.importance)

    def put(self, part: Self, batch: Any) -> Self:
        """With these rows replaced; λ₀ and c stay as they are."""
        if batch is None:
            return part
        likelihood = self.likelihood.put(part.likelihood, batch)
        prior, auxiliary = self.prior.put(part.prior, batch), self.auxiliary.put(part.auxiliary, batch)
        return type(self)(likelihood, self.scale, prior, auxiliary, self.importance)

    def features(self, value: Latent) -> dict[str, Array]:
        """What r sees of z."""
        found = features(stopped(self.likelihood), value)
        if self.auxiliary.expands:
            middle = self.given(self.prior.loc)
            found |= expansion(middle, {name: stopped(c) for name, c in self.scale.items()}, value)
        if not self.auxiliary.by_component:
            return found
        prior = cast(Mixture, self.whole_prior)
        centres = prior.components.loc
        return {**found, SHARES: prior.log_shares + jax.vmap(lambda u: self.given(u).log_prob(value))(centres)}

    def mix(self, key: PRNGKey, scored_by: Self | None = None) -> Draw:
        """ψ ~ q(ψ), reparameterised."""
        return self.prior.draw(key, scored_by=None if scored_by is None else scored_by.prior)

    @property
    def whole_prior(self) -> AbstractDensity:
        """The prior with all of its components, also where draws come from one."""
        return self.prior.mixture if isinstance(self.prior, Stratum) else self.prior

    def reverse(self, point: Flat, value: Latent) -> dict[str, Array]:
        """log r(ψ | z) in nats, by term."""
        return self.auxiliary.log_probs(point, self.features(value), self.whole_prior)

    def log_given(self, point: Flat, value: Latent) -> Array:
        """log q(z | ψ) in nats; where λ is row by row, of each row, (rows,), counted once."""
        product = self.given(point)
        if not isinstance(self.prior, AbstractRowPrior):
            return product.log_prob(value)
        each = [product.factors[name].log_prob(value[name]) for name in self.sites]
        return self.prior.layout.gather(each).sum(axis=1)

    def log_ratio(self, point: Flat, value: Latent) -> Array:
        """log q(ψ) + log q(z | ψ) - log r(ψ | z) in nats; where λ is row by row, of each row, counted once."""
        if isinstance(self.prior, AbstractRowPrior):
            reverse = cast(AbstractRowAuxiliary, self.auxiliary).by_row(point, self.features(value), self.prior)
            return self.prior.by_row(point) + self.log_given(point, value) - reverse
        return self.prior.log_prob(point) + self.log_given(point, value) - total(self.reverse(point, value))

    @property
    def row_weight(self) -> float:
        """How often each row counts, where λ is row by row and rows stand for others."""
        return self.prior.weight if isinstance(self.prior, AbstractRowPrior) else 1.0

    def marginal(self, key: PRNGKey, value: Latent, first: Array, count: int) -> tuple[Array, Array]:
        """(log of the mean of `first` and the ratios at `count` draws of r, log densities of scored choices).

        Where λ is row by row, the mean and its log are of each row, (rows,), counted once.
        """
        found, prior = self.features(value), self.whole_prior
        points, choices = jax.vmap(lambda k: self.auxiliary.draw(k, found, prior))(jr.split(key, count))
        others = jax.vmap(lambda point: self.log_ratio(point, value))(points)
        every = jnp.concatenate([first[None], others])
        return jax.nn.logsumexp(every, axis=0) - jnp.log(every.shape[0]), choices

    # ---- the contract ------------------------------------------------------------------------------------------

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """ψ, then z given λ; `scored_by` evaluates q's own densities, never r, whose parameters are always trained."""
        first, second, third = jr.split(key, 3)
        judge = self if scored_by is None else scored_by
        mixed = self.mix(first, scored_by)
        within = self.given(mixed.value).draw(second, pathwise=pathwise, scored_by=judge.given(mixed.value))
        log_score = dict(within.log_score)
        if isinstance(mixed.log_score, dict):
            log_score |= {CHOICE: total(mixed.log_score)}
        if not self.importance:
            terms = {name: -term for name, term in self.reverse(mixed.value, within.value).items()}
            log_prob = {**within.log_prob, PRIOR: mixed.log_prob, **terms}
            return Draw(within.value, log_prob, log_score, jax.tree.map(jnp.zeros_like, log_prob))
        own = self.log_ratio(mixed.value, within.value)
        each, choices = self.marginal(third, within.value, own, self.importance)
        bound = self.row_weight * jnp.sum(each)
        if self.auxiliary.scores(self.whole_prior):
            log_score[REVERSE] = choices
        # What was scored counts as constant in log_prob; here it is one of several summands, so its slope is removed.
        scored = total(log_score)
        log_prob = {MARGINAL: bound - (scored - stopped(scored))}
        return Draw(within.value, log_prob, log_score, jax.tree.map(jnp.zeros_like, log_prob))

    def reach(self, factor: str) -> tuple[str, ...] | None:
        """A site's own term, and the terms of log r that see it."""
        if factor == CHOICE:
            return None
        if self.importance:
            return (MARGINAL,)
        if self.auxiliary.local:
            return (factor, f"auxiliary of {factor}")
        return (factor, "auxiliary")

    def touched(self, factor: str) -> tuple[str, ...]:
        """The component of λ moves every site, those of r move none."""
        if factor == CHOICE:
            return tuple(self.likelihood.factors)
        return () if factor == REVERSE else (factor,)

    # ---- strata ------------------------------------------------------------------------------------------------

    @property
    def num_strata(self) -> int:
        """Components of the prior, 1 where it has none."""
        return self.prior.num_strata

    @property
    def log_shares(self) -> Array:
        """Log probabilities of the prior's components."""
        return self.prior.log_shares

    def stratum(self, index: Any) -> "Hierarchical":
        """The same family with λ drawn from one component of its prior, its density that of the whole prior."""
        return Hierarchical(self.likelihood, self.scale, self.prior.stratum(index), self.auxiliary, self.importance)
