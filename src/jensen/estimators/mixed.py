"""One draw of everything, and for each factor the gradient that suits it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._errors import OptionError
from jensen._typing import Array, PRNGKey, Scalar
from jensen.core import AbstractBound, AbstractEstimator, AbstractModel, total
from jensen.core.family import stopped
from jensen.estimators.baseline import AbstractBaseline, LeaveOneOut
from jensen.estimators.credit import AbstractCredit, Blanket, Whole
from jensen.estimators.expectation import expected_terms, surrogate_terms
from jensen.estimators.regression import controlled, least_draws, regressed
from jensen.estimators.score_function import check, enough, without_value
from jensen.families.native import AbstractFactor, Product
from jensen.models.dependence import Links


class AbstractRecipe(eqx.Module):
    """How the gradient in one factor is estimated."""

    linear_only: eqx.AbstractClassVar[bool]

    def least(self, factor: AbstractFactor) -> int:
        """Draws that it needs."""
        del factor
        return 1


class Reparameterised(AbstractRecipe):
    """Differentiates through the draw; `stick` leaves out the score part, `exact_entropy` uses the closed form.

    With `controls` (and one of the two) the scores of each row are regressed out; see
    `jensen.estimators.regression.controlled`.
    """

    linear_only: ClassVar[bool] = False
    stick: bool = eqx.field(static=True, default=False)
    exact_entropy: bool = eqx.field(static=True, default=False)
    controls: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if self.controls and not (self.stick or self.exact_entropy):
            raise OptionError(
                "Controls are for gradients that come through the draws alone.",
                "Option: controls of Reparameterised.",
                "Add stick=True, or exact_entropy=True where there is a closed form.",
            )

    def least(self, factor: AbstractFactor) -> int:
        """Enough for the other draws to determine the coefficients, if there are any."""
        return least_draws(factor, scores_only=True) if self.controls else 1


class Scored(AbstractRecipe):
    """The score function with a credit and a baseline."""

    linear_only: ClassVar[bool] = False
    credit: AbstractCredit = Whole()
    baseline: AbstractBaseline = LeaveOneOut()

    def least(self, factor: AbstractFactor) -> int:
        """That of the baseline."""
        del factor
        return self.baseline.least


class Regressed(AbstractRecipe):
    """The score function with several zero-mean controls; see `jensen.estimators.regression`."""

    linear_only: ClassVar[bool] = True
    credit: AbstractCredit = Whole()

    def least(self, factor: AbstractFactor) -> int:
        """Enough for the other draws to determine the coefficients."""
        return least_draws(factor)


class Expected(AbstractRecipe):
    """Local expectation: every value of a small support is looked at, the other latents being drawn.

    ∇L = Σ_k ∇q(k) E[log p(x, z_j = k, z_-j) - log q_j(k)] (Titsias and Lázaro-Gredilla 2015, equation 9). With links
    that show the rows to be independent given the rest, all rows change together and the cost is K evaluations, and
    other factors' gradients see the expectation instead of the draw; else it is K evaluations for each row.
    """

    linear_only: ClassVar[bool] = True
    links: Links | None = eqx.field(static=True, default=None)


class Mixed(AbstractEstimator):
    """One recipe for each factor of a product, all from the same draws of all factors.

    Example:
        >>> from jensen.estimators import Mixed, Scored
        >>> estimator = Mixed({"z": Scored()}, num_draws=8)  # every other factor is reparameterised
    """

    linear_only: ClassVar[bool] = False
    recipes: Mapping[str, AbstractRecipe]
    num_draws: int = eqx.field(static=True, default=16)

    def recipe(self, q: Product, name: str) -> AbstractRecipe:
        """That of a factor: the one given, or reparameterisation where possible and the plain score elsewhere."""
        if name in self.recipes:
            return self.recipes[name]
        return Reparameterised() if q.factors[name].reparameterised else Scored()

    def _checked(self, bound: AbstractBound, q: Product) -> dict[str, AbstractRecipe]:
        chosen = {name: self.recipe(q, name) for name in q.factors}
        for name, recipe in chosen.items():
            credit = getattr(recipe, "credit", None)
            check(self, bound, recipe.linear_only or (credit is not None and credit.linear_only))
            enough(recipe, self.num_draws, recipe.least(q.factors[name]))
            if isinstance(recipe, Reparameterised):
                check(self, bound, recipe.stick or recipe.exact_entropy or recipe.controls)
                _possible(q, name, recipe)
            if isinstance(recipe, Expected) and q.factors[name].support() is None:
                raise OptionError(
                    f"The support of '{name}' is not small, so its values cannot each be looked at.",
                    f"Factor '{name}', {type(q.factors[name]).__name__}.",
                    "Use Scored() or Regressed() for it.",
                )
        return chosen

    def controlled(self, q: Product) -> list[str]:
        """The factors whose gradient is taken draw by draw, which `at` does not do: it has no draws to take apart."""
        return [n for n in q.factors if isinstance(r := self.recipe(q, n), Reparameterised) and r.controls]

    def values(self, q: Product, key: PRNGKey) -> Any:
        """Draws of every latent, differentiable in the factors that are reparameterised."""
        path = frozenset(name for name in q.factors if isinstance(self.recipe(q, name), Reparameterised))
        return jax.vmap(lambda k: q.values(k, pathwise=path))(jr.split(key, self.num_draws))

    def __call__(self, bound: AbstractBound, model: AbstractModel, q: Any, batch: Any, key: PRNGKey) -> Scalar:
        """The bound from fresh draws, in nats."""
        names = self.controlled(q)
        if not names:
            return self.at(bound, model, q, batch, self.values(q, key))
        return self._controlled(names, bound, model, q, batch, key)

    def _controlled(
        self, names: list[str], bound: AbstractBound, model: AbstractModel, q: Product, batch: Any, key: PRNGKey
    ) -> Scalar:
        """With the gradient of these factors taken draw by draw, and its explained part taken out."""
        still = stopped(q)
        keys = jr.split(key, self.num_draws)

        def draw(spread: Any) -> Any:
            def one(key: PRNGKey, factors: Any) -> Any:
                values = dataclasses.replace(still, factors={**still.factors, **factors}).values(key)
                return {name: values[name] for name in names}

            return jax.vmap(one)(keys, spread)

        spread = {
            name: jax.tree.map(lambda x: jnp.broadcast_to(x, (self.num_draws, *jnp.shape(x))), still.factors[name])
            for name in names
        }
        own, pull = jax.vjp(draw, spread)
        others = {name: value for name, value in self.values(q, key).items() if name not in names}

        def whole(own: Any) -> Scalar:
            return self.at(bound, model, still, batch, {**stopped(others), **own})

        (slopes,) = pull(jax.grad(whole)(own))
        surrogate = self.at(bound, model, q, batch, {**others, **stopped(own)})
        for name in names:
            each = jax.tree.map(lambda g: self.num_draws * g, slopes[name])
            slope = controlled(still.factors[name], own[name], each)
            pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(q.factors[name]), strict=True)
            surrogate = surrogate + sum(without_value(g, leaf) for g, leaf in pairs)
        return surrogate

    def at(self, bound: AbstractBound, model: AbstractModel, q: Product, batch: Any, values: Any) -> Scalar:
        """The bound from these draws, in nats; its gradient is that in q and, through `values`, in the draws."""
        recipes: dict[str, Any] = dict(self._checked(bound, q))

        def of(kind: type) -> list[str]:
            return [name for name, recipe in recipes.items() if isinstance(recipe, kind)]

        def log_joint(value: Any) -> dict[str, Array]:
            return model.log_joint(value, batch)

        path, looked_at = of(Reparameterised), of(Expected)
        values = {name: value if name in path else stopped(value) for name, value in values.items()}
        terms = jax.vmap(log_joint)(values)
        together = {name: recipes[name].links for name in looked_at if _together(recipes[name], name)}
        terms, others = expected_terms(q, log_joint, values, terms, together)
        log_score = {name: jax.vmap(q.factors[name].log_prob)(values[name]) for name in [*of(Scored), *of(Regressed)]}
        log_prob = {name: q.weighed(name, stopped(score)) for name, score in log_score.items()}
        for name in path:
            judge = stopped(q.factors[name]) if recipes[name].stick else q.factors[name]
            log_prob[name] = q.weighed(name, jax.vmap(judge.log_prob)(values[name]))
        for name in [*looked_at, *(n for n in path if recipes[n].exact_entropy)]:
            entropy = q.factors[name].entropy()
            assert entropy is not None
            log_prob[name] = q.weighed(name, jnp.broadcast_to(-entropy, (self.num_draws, *entropy.shape)))
        log_w = jax.vmap(total)(terms) - jax.vmap(total)(log_prob)
        surrogate = bound(log_w) + others
        for name in looked_at:
            if name not in together:
                surrogate = surrogate + surrogate_terms(q, name, log_joint, values)
        for name, score in log_score.items():
            recipe = recipes[name]
            local = stopped(recipe.credit(q, name, score.shape[1:], stopped(terms), stopped(log_prob), stopped(log_w)))
            if isinstance(recipe, Scored):
                surrogate = surrogate + without_value(recipe.baseline.signal(bound, local), score)
                continue
            slope = regressed(stopped(q.factors[name]), values[name], local, stopped(log_w))
            pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(q.factors[name]), strict=True)
            surrogate = surrogate + sum(without_value(g, leaf) for g, leaf in pairs)
        return surrogate


def _together(recipe: Any, name: str) -> bool:
    return recipe.links is not None and recipe.links.separable(name)


def _possible(q: Product, name: str, recipe: Reparameterised) -> None:
    factor = q.factors[name]
    if not factor.reparameterised:
        raise OptionError(
            f"The draws of '{name}' cannot be reparameterised.",
            f"Factor '{name}', {type(factor).__name__}.",
            "Use Scored(), Regressed(), or Expected() for a small support.",
        )
    if recipe.exact_entropy and factor.entropy() is None:
        raise OptionError(
            f"The entropy of '{name}' has no closed form.",
            f"Factor '{name}', {type(factor).__name__}.",
            "Leave exact_entropy out.",
        )


__all__ = ["AbstractRecipe", "Blanket", "Expected", "Mixed", "Regressed", "Reparameterised", "Scored"]
