"""One draw of everything, and for each factor the gradient that suits it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._base.errors import OptionError
from jensen._base.typing import Array, PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, total
from jensen._core.family import stopped
from jensen._estimators.expectation import expected_terms, surrogate_terms
from jensen._estimators.neighbours import averaged, neighbours, without
from jensen._estimators.recipes import AbstractRecipe, Expected, Regressed, Reparameterised, Scored
from jensen._estimators.regression import controlled, regressed
from jensen._estimators.score_function import check, enough, without_value
from jensen._families.native import Product
from jensen._program.dependence import Links


class Mixed(AbstractEstimator):
    """One recipe for each factor of a product, all from the same draws of all factors.

    Example:
        >>> from jensen._estimators import Mixed, Scored
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
            check(self, bound, recipe.for_linear_bounds)
            enough(recipe, self.num_draws, recipe.least(q.factors[name]))
            if isinstance(recipe, Reparameterised):
                check(self, bound, recipe.stick or recipe.exact_entropy or recipe.averages is not None)
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

    def __call__(self, bound: AbstractBound, model: Any, q: Any, batch: Any, key: PRNGKey) -> Scalar:
        """The bound from fresh draws, in nats."""
        names = self.controlled(q)
        values = self.values(q, key) if len(names) < len(q.factors) else {}
        if not names:
            return self.at(bound, model, q, batch, values)
        return self.apart(bound, model, q, batch, values, *self.each(q, key, names))

    def each(self, q: Product, key: PRNGKey, names: list[str]) -> tuple[Any, Any]:
        """The draws of these factors, and the map from slopes in them to slopes in the leaves, draw by draw."""
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
        return own, lambda slopes: pull({n: slopes.get(n, jnp.zeros_like(v)) for n, v in own.items()})[0]

    def apart(
        self, bound: AbstractBound, model: Any, q: Product, batch: Any, values: Any, own: Any, pull: Any
    ) -> Scalar:
        """The bound from these draws, in nats; the gradient of controlled factors less what controls explain of it.

        `own` and `pull` come from `each`, for the controlled factors at least.
        """
        names, still = self.controlled(q), stopped(q)
        own = {name: own[name] for name in names}
        others = {name: value for name, value in values.items() if name not in names}

        def of_draws(own: Any) -> Scalar:
            return self.at(bound, model, still, batch, {**stopped(others), **own})

        value, slopes = jax.value_and_grad(of_draws)(stopped(own))
        slopes = pull(stopped(slopes))
        if all(name in names and self.recipe(q, name).stick for name in q.factors):  # type: ignore[attr-defined]
            surrogate = value  # every gradient comes through the draws, but for that in parameters of the model
        else:
            surrogate = self.at(bound, model, q, batch, {**others, **stopped(own)})
        for name in names:
            each = jax.tree.map(lambda g: self.num_draws * g, slopes[name])
            slope = controlled(still.factors[name], own[name], each)
            pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(q.factors[name]), strict=True)
            surrogate = surrogate + sum(without_value(g, leaf) for g, leaf in pairs)
        return surrogate

    def at(self, bound: AbstractBound, model: Any, q: Product, batch: Any, values: Any) -> Scalar:
        """The bound from these draws, in nats; its gradient is that in q and, through `values`, in the draws."""
        recipes: dict[str, Any] = dict(self._checked(bound, q))

        def of(kind: type) -> list[str]:
            return [name for name, recipe in recipes.items() if isinstance(recipe, kind)]

        def log_joint(value: Any) -> dict[str, Array]:
            return _log_joint(model, batch, value)

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
        quiet = self._averaged(recipes, q, log_joint, values, together)
        log_w = jax.vmap(total)(without(terms, quiet)) - jax.vmap(total)(log_prob)
        surrogate = bound(log_w) + others
        for name in looked_at:
            if name not in together:
                surrogate = surrogate + surrogate_terms(q, name, log_joint, values, recipes[name].links)
        for name, score in log_score.items():
            recipe = recipes[name]
            own_terms = stopped(terms if recipe.averages is None else without(terms, quiet, name))
            whole = jax.vmap(total)(own_terms) - stopped(jax.vmap(total)(log_prob))
            local = stopped(recipe.credit(q, name, score.shape[1:], own_terms, stopped(log_prob), whole))
            if isinstance(recipe, Scored):
                surrogate = surrogate + without_value(recipe.baseline.signal(bound, local), score)
                continue
            slope = regressed(stopped(q.factors[name]), values[name], local, whole)
            pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(q.factors[name]), strict=True)
            surrogate = surrogate + sum(without_value(g, leaf) for g, leaf in pairs)
        return surrogate

    def _averaged(
        self, recipes: Mapping[str, Any], q: Product, log_joint: Any, values: Any, together: Mapping[str, Links]
    ) -> dict[str, Any]:
        """What the draws of neighbours add to the terms, for the factors that do without; site by site."""
        asked = {name: recipe.averages for name, recipe in recipes.items() if recipe.averages is not None}
        if not asked:
            return {}
        chosen = {n: links for name, links in asked.items() for n in neighbours(q, links, name)}
        values = {name: value if name in asked else stopped(value) for name, value in values.items()}

        def terms(values: Any) -> dict[str, Array]:
            return expected_terms(stopped(q), log_joint, values, jax.vmap(log_joint)(values), together)[0]

        names = [name for name in chosen if not isinstance(recipes[name], Expected)]
        return averaged(q, terms, values, next(iter(chosen.values())), names) if names else {}


@functools.partial(jax.jit, inline=True)
def _log_joint(model: Any, batch: Any, value: Any) -> dict[str, Array]:
    """Traced once for a model, however often its terms are looked at."""
    return model.log_joint(value, batch)


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


__all__ = ["Mixed"]
