"""What a file keeps of a fit by an encoder, and how it becomes one again."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from jensen._amortised.amortised import AmortisedVI
from jensen._amortised.family import Amortised, Structured
from jensen._amortised.model import RowTarget
from jensen._base.errors import OptionError, UndefinedError
from jensen._base.typing import leaf
from jensen._math.precision import Precision, working
from jensen._model.parameters import LEARNED, Closed, find_parameters


def parameters(q: Amortised) -> dict[str, np.ndarray]:
    """The encoder's arrays by path, the shared factor's by name."""
    static = q.encoder.static
    arrays = {
        f"encoder/{jax.tree_util.keystr(path, simple=True, separator='.')}": np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(q.encoder.arrays)
    }
    shared = {f"shared/{name}": np.asarray(value) for name, value in vars(q.shared).items()}
    facts = {
        "full": np.asarray(int(q.shape.full)),
        "structured": np.asarray(int(isinstance(q.form, Structured))),
        "built": np.asarray(int(static.flat)),
    }
    return (
        arrays | shared | facts | {"inputs": np.asarray(static.inputs), "missing": np.asarray(sorted(static.missing))}
    )


def restored(parameters: Mapping[str, np.ndarray], target: RowTarget) -> Amortised:
    """The family with these arrays; an encoder of the user's own has to be there."""
    arrays = {name.partition("/")[2]: value for name, value in parameters.items() if name.startswith("encoder/")}
    shared = {name.partition("/")[2]: value for name, value in parameters.items() if name.startswith("shared/")}
    built = bool(int(parameters["built"]))
    if not built and target.encoder is None:
        raise UndefinedError(
            "The fit was made with an encoder of your own, and a file holds its arrays, not its form.",
            "",
            "Give it back: jn.load(path).attach(model, data, encoder=module).",
        )
    hidden = None
    if built:
        count = sum(name.startswith("weights.") for name in arrays)
        hidden = tuple(int(arrays[f"weights.{i}"].shape[0]) for i in range(count - 1))
    method = AmortisedVI(
        encoder=None if built else target.encoder,
        hidden=hidden,
        inputs=tuple(str(name) for name in parameters["inputs"]),
        family=_family(parameters),
    )
    with working(target.precision):
        q = method.start(target, 0).q
    paths = jax.tree_util.tree_leaves_with_path(q.encoder.arrays)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    shapes = {name: np.shape(leaf) for name, (_, leaf) in zip(names, paths, strict=True)}
    if shapes != {name: value.shape for name, value in arrays.items()}:
        raise OptionError(
            "This encoder is not the one of the saved fit: its arrays differ in name or shape.",
            f"Saved: { {n: v.shape for n, v in arrays.items()} }; given: {shapes}.",
            "Pass a module of the form that the fit was made with.",
        )
    leaves = jax.tree.unflatten(jax.tree.structure(q.encoder.arrays), [arrays[name] for name in names])
    own = type(q.shared)(**{name: leaf(value) for name, value in shared.items()})
    return eqx.tree_at(lambda f: (f.encoder.arrays, f.shared), q, (leaves, own))


def _family(parameters: Mapping[str, np.ndarray]) -> Any:
    if int(parameters.get("structured", 0)):
        return "structured"
    return "full_rank" if int(parameters["full"]) else "mean_field"


def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> RowTarget:
    """The rows of a model, closed at its estimates if it has any."""
    method = AmortisedVI(
        encoder=options.get("encoder"),
        family=options.get("family", "mean_field"),
        hidden=options.get("hidden"),
        inputs=options.get("inputs"),
        plate=options.get("plate"),
        held_out=options.get("held_out", 0.0),
    )
    if isinstance(model, Closed):
        rest = {name: value for name, value in data.items() if name != LEARNED}
        given = {**rest, **{p.name: data[LEARNED][p.name] for p in model.parameters if p.kind == "argument"}}
        known = {p.name: p for p in find_parameters(model.fn, given)}
        asked = [p for p in model.parameters if p.name not in known]
        if asked:
            learn = [p.name for p in asked]
            known = {p.name: p for p in find_parameters(model.fn, given, learn)}
        return method.prepare_learning(model.fn, tuple(known[p.name] for p in model.parameters), given, precision)
    return method.prepare(model, data, precision)
