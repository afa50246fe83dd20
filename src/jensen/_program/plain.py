"""Analysis of a `LogDensity`: shapes, supports, and that the function is one differentiable scalar."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to, constraints

from jensen._base.arguments import whole_number
from jensen._base.errors import ModelError, OptionError, nearest
from jensen._data.columns import as_array
from jensen._program.structure import Site, Structure
from jensen._program.supports import check_support
from jensen._program.user_code import blame


def analyse_plain(model: Any, data: dict[str, Any], fixed: dict[str, Any], *, discrete: bool = False) -> Structure:
    """One abstract evaluation; nothing is compiled. A function that is not differentiable is only described."""
    for name in model.supports:
        if name not in model.shapes_or_init:
            raise OptionError(
                f"A support is given for '{name}', which is no site.", "", nearest(name, model.shapes_or_init)
            )
    if not model.shapes_or_init:
        raise ModelError("The log density has no sites.", "", "Pass shapes_or_init={'name': shape}.")
    sites = {
        name: site_of(name, shape, model.supports.get(name, constraints.real), discrete)
        for name, shape in model.shapes_or_init.items()
    }
    if not any(np.prod(site.shape, dtype=int) for site in sites.values()):
        raise ModelError("The sites of the log density are empty.", f"Sites: {', '.join(sites)}.", "Give them a size.")
    structure = Structure(sites, {})
    if not model.differentiable:
        if not discrete:
            raise ModelError(
                "The log density is declared not differentiable, and this method needs its gradient.",
                f"Sites: {', '.join(sites)}.",
                "Use method='bbvi', which needs values only.",
            )
        return structure

    def value(latent: dict[str, Any], arrays: dict[str, Any]) -> Any:
        return model.fn(latent, **arrays, **fixed)

    from jensen._program.analysis import CONCRETE_NEEDED

    kinds = {True: jnp.result_type(int), False: jnp.result_type(float)}
    latent = {site.name: jax.ShapeDtypeStruct(site.shape, kinds[site.discrete]) for site in structure.latents}
    where = f"In {getattr(model.fn, '__name__', 'the function')} ({_file(model.fn)})."
    try:
        out = jax.eval_shape(value, latent, data)
    except CONCRETE_NEEDED:
        if not data:
            raise ModelError(
                "The log density needs concrete numbers, so JAX cannot differentiate it.",
                where,
                "Write it with jax.numpy, and `jnp.where` or `lax.cond` instead of `if` on latents; or declare it "
                "LogDensity(..., differentiable=False) and use method='bbvi'.",
            ) from None
        raise
    except Exception as error:
        raise blame(error, model.fn, data | fixed) from error
    if not hasattr(out, "shape") or out.shape != ():
        shape = getattr(out, "shape", type(out).__name__)
        raise ModelError(
            f"The log density must be one number, but it has shape {shape}.",
            where,
            "Sum over rows: return log_lik.sum() + log_prior.sum().",
        )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ModelError(
            f"The log density must be a real float, but it has dtype {out.dtype}.",
            where,
            "Return a float array; integers and booleans have no gradient.",
        )
    try:
        smooth = {site.name: latent[site.name] for site in structure.latents if not site.discrete}
        counts = {name: jnp.zeros(spec.shape, spec.dtype) for name, spec in latent.items() if name not in smooth}
        jax.eval_shape(jax.grad(lambda some, data: value({**some, **counts}, data)), smooth, data)
    except Exception as error:
        raise ModelError(
            f"The log density is not differentiable ({str(error).splitlines()[0]}).",
            where,
            "Write it with jax.numpy, or give a callback a custom derivative (jax.custom_vjp).",
        ) from error
    return structure


def _file(fn: Any) -> str:
    try:
        return f"{inspect.getsourcefile(fn)}".rsplit("/", 1)[-1]
    except TypeError:
        return "built-in"


def _initial(name: str, value: Any, support: Any) -> np.ndarray:
    """Initial values, which must lie inside the support."""
    array = as_array(name, value)
    with np.errstate(invalid="ignore"), jax.ensure_compile_time_eval():
        inside = np.isfinite(array).all() and np.all(np.asarray(support(jnp.asarray(array))))
    if not inside:
        raise OptionError(
            f"The initial value of '{name}' is not finite, or outside its support ({support}).",
            f"Argument: shapes_or_init. Initial value: {np.array2string(array, threshold=6)}.",
            "Start inside the support, or give the shape alone.",
        )
    return array


def site_of(name: str, shape_or_init: Any, support: Any, discrete: bool) -> Site:
    """A latent as it was declared."""
    check_support(support, f"Site '{name}'.")
    if isinstance(shape_or_init, (int, np.integer, tuple)):
        sizes = shape_or_init if isinstance(shape_or_init, tuple) else (shape_or_init,)
        shape = tuple(whole_number(n, f"The shape of '{name}'", "Argument: shapes_or_init.", least=0) for n in sizes)
    else:
        shape = np.shape(_initial(name, shape_or_init, support))
    if support.is_discrete:
        if not discrete:
            raise ModelError(
                f"The latent site '{name}' is discrete, and this method needs continuous latents.",
                f"Site '{name}', support {support}.",
                "Use method='bbvi'.",
            )
        return Site(name, "latent", "LogDensity", support, shape, support.event_dim, (), (0,))
    unconstrained = tuple(biject_to(support).inverse_shape(shape))
    return Site(name, "latent", "LogDensity", support, shape, support.event_dim, (), unconstrained)
