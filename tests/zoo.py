"""The zoo: one line for everything that a law must hold for. A new model, family, bound or estimator adds a line."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpyro.distributions import constraints

import jensen._bounds as bounds
import jensen._estimators as estimators
import jensen._families as families
from jensen._model import LogDensity
from tests.models import zoo_models as m


@dataclass(frozen=True)
class Entry:
    """A model of the zoo with its data and the shapes of its latents on the support, in the model's own order."""

    model: Any
    data: dict[str, Any]
    latents: dict[str, tuple[int, ...]]
    deterministic: dict[str, tuple[int, ...]] = field(default_factory=dict)


_rng = np.random.default_rng(20240229)
_y5, _y34 = _rng.normal(size=5), _rng.normal(size=(3, 4))
_y63, _y62 = _rng.normal(size=(6, 3)), _rng.normal(size=(6, 2))
_positive, _count = _rng.gamma(2.0, size=5), _rng.poisson(2.0, size=5)
_multinomial = _rng.multinomial(10, [0.1, 0.2, 0.3, 0.4], size=3)
_sigma, _effect = np.array([15.0, 10.0, 16.0]), np.array([28.0, 8.0, -3.0])
_schools = {"sigma": _sigma, "y": _effect}
_nan = np.array([0.3, np.nan, -1.0, np.nan, 2.0])
_keep = np.array([True, False, True, True, False])
_low = np.array([-1.0, 0.0, 0.5, -2.0, -0.5])

MODELS: dict[str, Entry] = {
    "normal_mean": Entry(m.normal_mean, {"y": _y5}, {"mu": ()}),
    "eight_schools": Entry(m.eight_schools, _schools, {"mu": (), "tau": (), "theta": (3,)}),
    "nested_plates": Entry(m.nested_plates, {"y": _y34}, {"mu": (), "a": (3, 1), "b": (3, 4)}),
    "crossed_plates": Entry(m.crossed_plates, {"y": _y34}, {"a": (3, 1), "b": (4,)}),
    "deterministic_sites": Entry(
        m.deterministic_sites, _schools, {"mu": (), "tau": (), "z": (3,)}, {"log_tau": (), "theta": (3,)}
    ),
    "factor_site": Entry(m.factor_site, {"x": _y5}, {"w": (3,)}),
    "masked_nan": Entry(m.masked_nan, {"y": _nan}, {"mu": ()}),
    "mask_method": Entry(m.mask_method, {"y": _nan, "keep": ~np.isnan(_nan)}, {"mu": ()}),
    "scaled_likelihood": Entry(m.scaled_likelihood, {"y": _positive}, {"rate": ()}),
    "positive_supports": Entry(m.positive_supports, {"y": _positive}, {"a": (), "b": (), "c": ()}),
    "interval_supports": Entry(
        m.interval_supports, {"k": np.array([3, 1, 4]), "total_count": 10}, {"p": (), "shift": (), "upper": ()}
    ),
    "simplex": Entry(m.simplex, {"counts": _multinomial}, {"p": (4,)}),
    "simplex_plate": Entry(m.simplex_plate, {"counts": _multinomial}, {"p": (3, 4)}),
    "ordered": Entry(m.ordered, {"x": _y5, "grade": np.array([0, 1, 3, 2, 1])}, {"beta": (), "cuts": (3,)}),
    "positive_ordered": Entry(m.positive_ordered, {"y": _y5}, {"knots": (3,)}),
    "corr_cholesky": Entry(m.corr_cholesky, {"y": _y63}, {"root": (3, 3), "scale": (3,)}),
    "corr_matrix": Entry(m.corr_matrix, {"y": _y63}, {"corr": (3, 3)}),
    "scale_tril": Entry(m.scale_tril, {"y": _y63}, {"root": (3, 3)}),
    "covariance": Entry(m.covariance, {"y": _y63}, {"sigma": (3, 3)}),
    "circular": Entry(m.circular, {"angle": _y5}, {"loc": (), "kappa": ()}),
    "zero_sum": Entry(m.zero_sum, {"y": _rng.normal(size=(3, 4))}, {"effect": (4,)}),
    "to_event_and_expand": Entry(m.to_event_and_expand, {"y": _y34[:2, :3]}, {"a": (2, 3), "b": (3,), "c": (2, 3)}),
    "obs_mask": Entry(m.obs_mask, {"y": _y5, "known": _keep}, {"mu": (), "y_unobserved": (5,)}, {"y": (5,)}),
    "scan_chain": Entry(m.scan_chain, {"y": _y5}, {"drift": (), "noise": (), "level": (5,)}),
    "scan_positive": Entry(m.scan_positive, {"y": _y34**2}, {"level": (3, 4)}, {"half": (3, 4)}),
    "observed_first": Entry(m.observed_first, {"x": _y5, "y": _y5[::-1]}, {"slope": ()}),
    "multivariate_obs": Entry(m.multivariate_obs, {"y": _y62}, {"loc": (2,)}),
    "transformed": Entry(m.transformed, {"y": _positive}, {"scale": ()}),
    "bounds_from_data": Entry(m.bounds_from_data, {"low": _low, "high": _low + 3, "y": _y5}, {"a": (5,), "b": (5,)}),
    "size_from_data": Entry(m.size_from_data, {"group": np.array([0, 2, 1, 2, 0]), "y": _y5}, {"a": (3,)}),
    "size_from_floats": Entry(m.size_from_floats, {"knots": np.array([-1.0, 0.5, 2.0]), "y": 1.5}, {"w": (2,)}),
    "defaults": Entry(m.defaults, {"y": _y5}, {"mu": ()}),
    "defaults_overridden": Entry(m.defaults, {"y": _y5, "scale": 0.7, "heavy": True}, {"mu": ()}),
    "python_arguments": Entry(
        m.python_arguments, {"n": 5, "y": _count, "nu": 3, "heavy": True, "link": "log", "offset": None}, {"mu": ()}
    ),
    "mixture": Entry(m.mixture, {"y": _y5}, {"weights": (2,), "means": (2,)}),
    "zero_inflated": Entry(m.zero_inflated, {"count": _count, "x": _rng.normal(size=(5, 2))}, {"gate": (), "w": (2,)}),
    "gaussian_process": Entry(m.gaussian_process, {"x": np.linspace(0, 2, 5), "y": _y5}, {"length": ()}),
    "random_walk": Entry(m.random_walk, {"y": _keep.astype(int)}, {"scale": (), "path": (5,)}),
    "dict_data": Entry(m.dict_data, {"rows": {"x": _y5, "y": _y5[::-1]}}, {"mu": ()}),
    "random_constants": Entry(m.random_constants, {"y": _y34}, {"mu": ()}),
    "whole_scaled": Entry(m.whole_scaled, _schools, {"mu": (), "tau": (), "theta": (3,)}),
    "reparameterised": Entry(
        m.reparameterised, _schools, {"mu": (), "tau": (), "theta_decentered": (3,)}, {"theta": (3,)}
    ),
    "conditioned": Entry(m.conditioned, {"sigma": _sigma}, {"mu": (), "tau": (), "theta": (3,)}),
    "partially_applied": Entry(m.partially_applied, {"y": _y5}, {"mu": ()}),
    "as_object": Entry(m.AsObject(3.0), {"y": _y5}, {"mu": ()}),
    "log_density": Entry(LogDensity(m.rosenbrock, {"x": (), "y": ()}), {}, {"x": (), "y": ()}),
    "log_density_supports": Entry(
        LogDensity(m.gamma_simplex, {"p": 3, "rate": ()}, {"p": constraints.simplex, "rate": constraints.positive}),
        {"counts": np.array([3.0, 1.0, 2.0])},
        {"p": (3,), "rate": ()},
    ),
    "log_density_init": Entry(
        LogDensity(m.linear_gaussian, {"w": np.zeros(2)}), {"x": _y62, "y": _y63[:, 0]}, {"w": (2,)}
    ),
}


def _factor(dim: int, rng: np.random.Generator) -> np.ndarray:
    return np.tril(rng.normal(size=(dim, dim)), -1) * 0.5 + np.diag(rng.uniform(0.3, 2.0, size=dim))


def _mean_field(dim: int, rng: np.random.Generator) -> families.MeanField:
    return families.MeanField(rng.normal(size=dim), rng.normal(size=dim) * 0.5)


def _full_rank(dim: int, rng: np.random.Generator) -> families.FullRank:
    return families.FullRank.from_factor(rng.normal(size=dim), _factor(dim, rng))


def _low_rank(dim: int, rng: np.random.Generator) -> families.LowRank:
    return families.LowRank(rng.normal(size=dim), rng.normal(size=dim) * 0.5, rng.normal(size=(dim, 2)))


def _structured(dim: int, rng: np.random.Generator) -> families.Structured:
    parents = tuple((i - 1, i - 2 if i > 1 else -1) for i in range(dim))
    return families.Structured(rng.normal(size=dim), rng.normal(size=dim) * 0.5, rng.normal(size=(dim, 2)), parents)


FAMILIES: dict[str, Callable[[int, np.random.Generator], families.AbstractGaussian]] = {
    "mean_field": _mean_field,
    "full_rank": _full_rank,
    "low_rank": _low_rank,
    "structured": _structured,
}

BOUNDS = {
    "elbo": bounds.ELBO(),
    "importance_weighted_1": bounds.ImportanceWeighted(1),
    "importance_weighted_8": bounds.ImportanceWeighted(8),
    "renyi": bounds.Renyi(0.5, 8),
}

ESTIMATORS: dict[str, Callable[[int], Any]] = {
    "pathwise": estimators.Pathwise,
    "exact_entropy": estimators.ExactEntropy,
    "sticking_the_landing": estimators.StickingTheLanding,
}
