"""Whether the prior of a row's continuous latents is Gaussian, given the row's codes and what rows share."""

from typing import Any

import jax
import numpy as np

from jensen._amortised.model.target import FEW, RowTarget, whole_shape
from jensen._math.precision import float_type, working
from jensen._math.programs import Program
from jensen._program.bijection import on_the_line


def bent_priors(target: RowTarget, seed: int = 0) -> list[str]:
    """The sites whose log prior is no quadratic function of the rows' latents, or whose latents are not on the line.

    Third differences along a line vanish for quadratic functions only; they are taken at random, site by site.
    """
    few = min(FEW, target.size)
    model, layout = target.model(few), target.layout
    bent = [site.name for site in layout.continuous if not on_the_line(site.support)]
    rng, kind = np.random.default_rng(seed), float_type(target.precision)
    start, step = (0.5 * rng.normal(size=(few, layout.dim)) for _ in range(2))
    shared = (0.3 * rng.normal(size=layout.shared_dim)).astype(kind)
    lows = {code.name: int(np.min(getattr(code.site.support, "lower_bound", 0))) for code in layout.codes}
    codes = {name: np.full(whole_shape(model, name), low) for name, low in lows.items()}
    latents = [name for name in layout.inside if name not in layout.observed]

    def terms(model: Any, point: Any, parameters: Any) -> dict[str, Any]:
        values = model.values(point, codes, shared)[0]
        return {n: t.sum() for n, t in model.known(parameters).log_joint(values).items() if n in latents}

    with working(target.precision):
        run = Program(jax.vmap(terms, (None, 0, None)))
        rows = {name: value[:few] for name, value in target.rows.items()}
        points = (start + step * np.arange(-1.0, 3.0)[:, None, None]).astype(kind)
        found = jax.device_get(run(model.at(rows), points, target.start))
    tolerance = 1e-8 if target.precision == "double" else 1e-3
    for name, value in found.items():
        value = np.asarray(value, float)
        third = value @ np.array([-1.0, 3.0, -3.0, 1.0])
        if name not in bent and not abs(third) <= tolerance * (1.0 + np.abs(value).max()):
            bent.append(name)
    return bent
