"""Products of native factors on the latents' own supports, as black-box methods leave them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import leaf
from jensen._conjugate.factor_checks import FACTORS, factor_checks, factor_probabilities
from jensen._core import AbstractCheck, Outcome, total
from jensen._families import native
from jensen._families.native import Product
from jensen._math.keys import fold_in, split
from jensen._math.precision import Precision, float_type, working
from jensen._math.programs import Program
from jensen._model import Target
from jensen._model.native import NativeTarget, native_target
from jensen._model.target import DEAR
from jensen._verdict.answer import AbstractAnswer, Draws
from jensen._verdict.checks import FiniteDensity, OfPrior
from jensen._verdict.evidence import Decomposition, Evidence
from jensen._verdict.importance import Pool, weigh
from jensen._verdict.labellings import View, numbered
from jensen._verdict.moments import Agreement, compare_exact
from jensen._verdict.states import Probabilities
from jensen._verdict.unconstrained import on_the_line


class NativeAnswer(AbstractAnswer):
    """q(z) = Π_j q_j(z_j) on the supports themselves; importance weights are on all latents together."""

    kind: ClassVar[str] = "native"
    part: ClassVar[str] = "native"
    approximates: ClassVar[type] = Product
    advice: Mapping[str, str] = FACTORS

    def __init__(self, target: NativeTarget, outcome: Outcome, seed: int):
        self.target, self.outcome, self.seed = target, outcome, seed
        self.costly = target.elements >= DEAR
        self.structure, self.program = target.structure, target.program

    @property
    def q(self) -> Product:
        """The product."""
        return self.outcome.q

    @property
    def approximation(self) -> Product:
        """The same: it lives on the supports."""
        return self.q

    def _size(self) -> int:
        """Draws in a pool: 4096 where the data are small, at least 256."""
        return int(2 ** np.clip(np.floor(np.log2(4e8 / self.target.elements)), 8, 12))

    def _draws(self, q: Product, count: int, seed: int, label: int) -> Draws:
        with working(self.target.precision):
            key = fold_in(fold_in(jax.random.key(self.seed), label), seed % 2**32)
            keys = split(key, count)
            return {name: np.asarray(value) for name, value in jax.device_get(Program(_drawn)(q, keys)).items()}

    def _log_q(self, q: Product, draws: Draws) -> np.ndarray:
        with working(self.target.precision):
            return np.asarray(jax.device_get(Program(_densities)(q, draws)), float)

    def elbo(self, seed: int) -> tuple[float, float]:
        """Exact where the joint states were tabulated, else on fresh draws."""
        exact = self.outcome.certificate.elbo
        if exact is not None:
            return exact, 0.0
        draws = self._draws(self.q, self._size() // 2, seed, 1)
        ratios = self.target.log_joint(draws) - self._log_q(self.q, draws)
        with np.errstate(over="ignore"):  # values near the largest number: their error is infinite
            error = float(ratios.std() / np.sqrt(len(ratios))) if np.isfinite(ratios).all() else np.inf
        return float(ratios.mean()), error

    @functools.cached_property
    def _wide(self) -> Product:
        """The factors at a lower power."""
        scalars = sum(site.size if not site.discrete else int(np.prod(site.shape)) for site in self.structure.latents)
        power = max(0.5, 1.0 - 1.5 / np.sqrt(max(scalars, 1)))
        with working(self.target.precision):
            return Product({name: factor.tempered(power) for name, factor in self.q.factors.items()})

    def pool(self, seed: int) -> Pool:
        """Half from q, half from its factors at a lower power."""
        half, wide = self._size() // 2, self._wide
        parts = self._draws(self.q, half, seed, 2), self._draws(wide, half, seed, 3)
        draws = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        log_q, log_proposal = self._densities(draws)
        columns = [np.asarray(draws[site.name], float).reshape(2 * half, -1) for site in self._latents()]
        points = np.concatenate(columns, axis=1)
        return weigh(points, self.target.log_joint(draws), log_q, log_proposal)

    def _densities(self, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        log_q, log_wide = self._log_q(self.q, draws), self._log_q(self._wide, draws)
        return log_q, np.logaddexp(log_q, log_wide) - np.log(2.0)

    def view(self, pool: Pool) -> View | None:
        """The latents themselves, discrete ones by their values too."""
        coded = {site.name: numbered(site.support) for site in self._latents() if site.discrete}
        return View(
            self._read(pool.points),
            self.target.log_joint,
            self._densities,
            coded={name: count for name, count in coded.items() if count},
            eps=float(np.finfo(float_type(self.target.precision)).eps),
            frugal=self._size() < 1024,
        )

    def evidence(self, pool: Pool) -> Evidence:
        """Without limits where draws end at the last number that a support holds: their mass is more than a density."""
        found = super().evidence(pool)
        read = self._read(pool.points[: pool.half])
        columns = [read[s.name].reshape(pool.half, -1).T for s in self._latents() if not s.discrete]
        ends = any(len(np.unique(column)) < len(column) for part in columns for column in part)
        return dataclasses.replace(found, interval=(-np.inf, np.inf)) if ends else found

    def _latents(self) -> list[Any]:
        return self.structure.latents

    def prior_weights(self, seed: int) -> np.ndarray | None:
        """As many as the pool has, and a program of their own."""
        return self.target.prior_weights(self._size(), seed)

    def draws_of(self, pool: Pool) -> Draws:
        """The pool's points are the latents themselves."""
        return self.target.constrain(self._read(pool.points))

    def _read(self, points: np.ndarray) -> Draws:
        draws, start = {}, 0
        for site in self._latents():
            width = int(np.prod(site.shape, dtype=int))
            values = points[:, start : start + width].reshape(-1, *site.shape)
            draws[site.name] = values.astype(int) if site.discrete else values
            start += width
        return draws

    def sample(self, count: int, seed: int) -> Draws:
        """Draws of every latent."""
        return self.target.constrain(self._draws(self.q, count, seed, 4))

    def checks(self) -> tuple[AbstractCheck, ...]:
        """Other optima, weights, moments."""
        return *factor_checks("all latents drawn"), FiniteDensity(), OfPrior()

    def probabilities(self, pool: Pool, draws: Draws, without: Collection[str] = ()) -> dict[str, Probabilities]:
        """Those of the factors, where q is their product; by frequencies."""
        del without
        finite = {name: f.support() for name, f in self._discrete().items()}
        found = factor_probabilities({n: v for n, v in finite.items() if v is not None}, None, pool, draws)
        for name in found if isinstance(self.q, Product) else ():
            with working(self.target.precision):
                own = np.exp(np.asarray(self.q.factors[name].log_masses(), float))
            own = own.reshape(-1, own.shape[-1])
            found[name] = dataclasses.replace(found[name], own=own, own_error=np.zeros_like(own))
        return found

    def _discrete(self) -> dict[str, Any]:
        return {name: factor for name, factor in self.q.factors.items() if factor.discrete}

    def unconstrained(self, pool: Pool, draws: Draws, always: bool = False) -> Any:
        """The same model over R^D, where all latents are continuous."""
        target = self.target

        def build() -> Target:
            return Target(target.model, target.structure, target.precision)

        if not target.differentiable:
            return None
        always = always or not pool.even_q  # q may stop short of a tail
        return on_the_line(build, pool, draws, self._latents(), always)

    def agreement(self, pool: Pool, draws: Draws) -> Agreement:
        """Of the latents whose means and sds under q are known."""
        ranges = {s.name: max(float(np.ptp(draws[s.name])), 1.0) for s in self._latents() if s.discrete}
        known = {site.name: draws[site.name] for site in self._latents()}
        return compare_exact(known, pool.weights, self._known_moments(), ranges)

    def _known_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return self.exact_moments()

    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """On fresh draws."""
        draws = self._draws(self.q, num_draws or self._size() // 2, seed, 5)
        log_q = float(self._log_q(self.q, draws).mean())
        with working(self.target.precision):
            parts = {k: float(v) for k, v in jax.device_get(_by_site(self.target.model, draws)).items()}
        prior = sum(parts.get(site.name, 0.0) for site in self._latents())
        energy = sum(parts.values())
        elbo = energy - log_q
        gap = log_evidence - elbo
        return Decomposition(elbo, energy, -log_q, energy - prior, log_q - prior, log_evidence, gap)

    def exact_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and sd of the factors that have them in closed form."""
        with working(self.target.precision):
            found = {
                name: (np.asarray(f.mean(), float), np.sqrt(np.asarray(f.variance(), float)))
                for name, f in self.q.factors.items()
                if f.exact_moments
            }
        return found

    def parameters(self) -> dict[str, np.ndarray]:
        """`site/family/leaf` -> array; fixed numbers of a family are kept beside its leaves."""
        out = {}
        for name, factor in self.q.factors.items():
            for part in dataclasses.fields(factor):
                value = getattr(factor, part.name)
                if isinstance(value, (int, float, tuple)) or hasattr(value, "shape"):
                    out[f"{name}/{type(factor).__name__}/{part.name}"] = np.asarray(value)
        return out

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Product | None:
        """The product with these arrays; a factor behind a bijection needs its model for it."""
        parts: dict[str, tuple[str, dict[str, Any]]] = {}
        for key, value in parameters.items():
            site, family, part = key.rsplit("/", 2)
            parts.setdefault(site, (family, {}))[1][part] = value
        if any(family == "Transformed" for family, _ in parts.values()) and target is None:
            return None
        factors = {}
        for site, (family, arrays) in parts.items():
            cls = getattr(native, family)
            fixed = {f.name for f in dataclasses.fields(cls) if f.metadata.get("static", False)}
            given = {k: leaf(np.asarray(v)) if k not in fixed else v if v.ndim else v.item() for k, v in arrays.items()}
            if family == "Transformed":
                assert target is not None
                chosen = native.native_factor(target.structure.sites[site], target.supports.get(site))
                factors[site] = eqx.tree_at(lambda f: (f.loc, f.log_scale), chosen, (given["loc"], given["log_scale"]))
            else:
                factors[site] = cls(**given)
        return Product(factors)

    @staticmethod
    def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> NativeTarget:
        """The model on its own supports."""
        del options
        return native_target(model, data, precision)


def _drawn(q: Product, keys: Any) -> Any:
    return jax.lax.map(q.values, keys, batch_size=64)


def _densities(q: Product, draws: Any) -> Any:
    return jax.vmap(q.log_prob)(draws)


@eqx.filter_jit
def _by_site(model: Any, draws: Any) -> Any:
    """Each term's mean over the draws."""
    terms = jax.lax.map(lambda one: {name: total(term) for name, term in model.log_joint(one).items()}, draws)
    return {name: jnp.mean(term) for name, term in terms.items()}
