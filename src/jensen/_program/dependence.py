"""Which entry of which term of the log joint depends on which row of which latent, read off the traced program."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from jensen._program.folding import bind, called, evaluated, fold, in_numpy, walked
from jensen._program.movement_rules import along, contracted, gathered, merge, reduced, spread
from jensen._program.primitive_kinds import ELEMENTWISE, MOVEMENT

NONE, MANY = -1, -2
"""Not a row: the entry depends on no row of the site; on more than one, or nobody knows."""

Rows: TypeAlias = dict[str, np.ndarray]
"""Site -> for each entry of an array, the row of the site that it depends on, `NONE` or `MANY`."""


MOST_LAYERS, SHORT = 16, 4
"""Groups of rows that are followed apart at most, and the length up to which every position of an axis is one."""


@dataclass(frozen=True, eq=False)
class Links:
    """`rows[term][site]`: for each entry of the term the one row of the site that it depends on (flat index).

    Sites that a term does not depend on are left out. `split[site]` are groups of rows of which an entry sees fewer
    than of all: the even and the odd states of a chain, say. Rows on several axes (the topics of each document) also
    form blocks, those that agree in some of the axes: `blocks[term][site]` has, for axes as the key, the one block that
    an entry depends on, where it depends on several rows.

    Compared by identity, so that compiled programs are found again.
    """

    rows: dict[str, Rows]
    shapes: dict[str, tuple[int, ...]]
    split: dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]] = field(default_factory=dict)
    blocks: dict[str, dict[str, dict[tuple[int, ...], np.ndarray]]] = field(default_factory=dict)

    def touching(self, site: str) -> list[str]:
        """The terms that depend on a site: its Markov blanket's densities."""
        return [term for term, found in self.rows.items() if site in found]

    def separable(self, site: str) -> bool:
        """Whether no entry of any term depends on two rows of the site: its rows are independent given the rest."""
        return all((found[site] != MANY).all() for found in self.rows.values() if site in found)

    def groups(self, site: str) -> list[np.ndarray]:
        """Which rows each group of the site has, (*rows) of booleans: one of all rows where it is not split."""
        return (
            [members for members, _ in self.split[site]] if site in self.split else [np.ones(self.shapes[site], bool)]
        )

    def of_group(self, term: str, site: str, members: np.ndarray) -> np.ndarray:
        """The row of a group that each entry of the term depends on, `NONE` or `MANY`."""
        found = [index for own, index in self.layers(term, site) if np.array_equal(own, members)]
        return found[0] if found else np.full(np.shape(self.rows[term][site]), NONE)

    def layers(self, term: str, site: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """(which rows a group has, the one of them that each entry depends on, `NONE` or `MANY`) for all groups."""
        if site not in self.split:
            return [(np.ones(self.shapes[site], bool), self.rows[term][site])]
        return [(members, found[term]) for members, found in self.split[site] if term in found]

    def common(self, site: str) -> tuple[int, ...]:
        """Axes of its rows such that no entry depends on two blocks that differ in them, for the smallest such blocks.

        All of them where the rows are independent given the rest; none where any two of them may depend on each other.
        """
        terms = [term for term in self.rows if site in self.rows[term]]
        for axes in self.by_size(site):
            if not axes or all((self.by_block(term, site, axes) != MANY).all() for term in terms):
                return axes
        return ()

    def together(self, site: str) -> int:
        """Rows in each block of `common`: so many have to be looked at one by one, 1 where they are independent."""
        shape, axes = self.shapes[site], self.common(site)
        return int(np.prod([size for axis, size in enumerate(shape) if axis not in axes], dtype=int))

    def by_size(self, site: str) -> list[tuple[int, ...]]:
        """Sets of axes of its rows, those with the smallest blocks first."""
        return _sets(self.shapes[site])

    def by_block(self, term: str, site: str, axes: tuple[int, ...]) -> np.ndarray:
        """For each entry the one block, of rows that agree in these axes, that it depends on (flat index)."""
        index, shape = self.rows[term][site], self.shapes[site]
        where = np.unravel_index(np.maximum(index, 0), shape) if shape else ()
        block = np.zeros_like(index)
        for axis in axes:
            block = block * shape[axis] + where[axis]
        block = np.where(index >= 0, block, index) if axes else np.where(index == NONE, NONE, 0)
        known = self.blocks.get(term, {}).get(site, {})
        return np.where(index == MANY, known[axes], block) if axes in known else block


def _sets(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    sets = [axes for n in range(len(shape) + 1) for axes in itertools.combinations(range(len(shape)), n)]
    return sorted(sets, key=lambda axes: (-int(np.prod([shape[a] for a in axes], dtype=int)), axes))


def links(
    log_joint: Callable[..., Mapping[str, Any]],
    latents: Mapping[str, Any],
    rows: Mapping[str, tuple[int, ...]],
    data: tuple[Any, ...] = (),
) -> Links:
    """Follow every row of every latent through the program, entry by entry.

    `latents` gives shape and type of every site's value, `rows` the leading shape that counts as its rows; `data`,
    further arguments of `log_joint`, are known. Elementwise operations, data movement with known indices, sums and
    products are followed exactly; a loop or a solve counts as depending on everything that enters it. What is left out
    is therefore never a dependence. Where an entry sees several rows of a site, groups of rows (every second one along
    an axis, each position of a short axis) and blocks of them are followed apart. Nothing is compiled.
    """
    traced, shape = jax.make_jaxpr(log_joint, return_shape=True)(dict(latents), *data)
    program, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)
    tree, sites, known_data = jax.tree.structure(shape), sorted(latents), jax.tree.leaves(data)
    shapes = {name: tuple(rows[name]) for name in latents}
    whole = {name: tuple(range(len(own))) for name, own in shapes.items()}
    start = {name: _own(shapes[name], whole[name], _shape(latents[name])) for name in sites}

    def followed(given: list[Rows]) -> dict[str, Rows]:
        values = [*([None] * len(given)), *known_data]
        found = _run(program, list(traced.consts), values, [*given, *({} for _ in known_data)])
        out = jax.tree.unflatten(tree, [index for _, index in found])
        return {t: {s: i for s, i in deps.items() if (i != NONE).any()} for t, deps in _terms(out, shape)}

    keep = followed([{name: start[name]} for name in sites])
    known = Links(keep, shapes)
    split = {}
    for name in sites:
        if int(np.prod(rows[name], dtype=int)) > 2 and not known.separable(name):

            def parts(group: np.ndarray, name: str = name) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
                """The members of each group, and what depends on them."""
                number = group.reshape(-1)[start[name]]
                labels = {f"{name}\x00{g}": g for g in range(int(group.max()) + 1)}
                own = {label: np.where(number == g, start[name], np.int32(NONE)) for label, g in labels.items()}
                out = followed([own if site == name else {site: start[site]} for site in sites])
                return [
                    (group == g, {t: d[label] for t, d in out.items() if label in d}) for label, g in labels.items()
                ]

            layers = _groups(rows[name], parts, [found[name] for found in keep.values() if name in found])
            if layers:
                split[name] = layers
    blocks: dict[str, dict[str, dict[tuple[int, ...], np.ndarray]]] = {}
    several = {site for deps in keep.values() for site, ids in deps.items() if (ids == MANY).any()}
    open_sets = {site: [axes for axes in _sets(shapes[site]) if axes and axes != whole[site]] for site in several}
    for i in range(max(map(len, open_sets.values()), default=0)):
        now = {site: sets[i] for site, sets in open_sets.items() if i < len(sets)}
        wider = followed([{s: _own(shapes[s], now.get(s, whole[s]), _shape(latents[s]))} for s in sites])
        for term, site in [(t, s) for t in keep for s in now if s in keep[t]]:
            blocks.setdefault(term, {}).setdefault(site, {})[now[site]] = wider[term][site]
    return replace(known, split=split, blocks=blocks)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if hasattr(value, "shape") else np.shape(value)


Layers: TypeAlias = list[tuple[np.ndarray, dict[str, np.ndarray]]]


def _groups(shape: tuple[int, ...], parts: Callable[[np.ndarray], Layers], before: list[np.ndarray]) -> Layers:
    """The coarsest groups found of which entries see one row each, as far as there are any; nothing where none helps.

    The axes are taken in turn: every second position, and, along a short axis, each.
    """
    group, best, layers = np.zeros(shape, int), sum(int((ids == MANY).sum()) for ids in before), []
    for axis, size in enumerate(shape):
        place = np.arange(size).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        for count in (2, size) if 2 < size <= SHORT else (2,):
            finer = group * count + place % count
            total = int(finer.max()) + 1
            if size < 2 or best == 0 or total > MOST_LAYERS or 2 * total > finer.size:
                continue
            found = parts(finer)
            left = sum(int((ids == MANY).sum()) for _, layer in found for ids in layer.values())
            if left < best:
                group, best, layers = finer, left, found
    return layers


def _terms(out: Any, shape: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    return [(name, {s: np.broadcast_to(i, shape[name].shape) for s, i in out[name].items()}) for name in shape]


def _own(rows: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The block of each entry of the value itself, of rows that agree in these axes."""
    kept = [size if axis in axes else 1 for axis, size in enumerate(rows)]
    index = np.arange(int(np.prod(kept, dtype=int)), dtype=np.int32).reshape(kept)
    return np.broadcast_to(index.reshape(index.shape + (1,) * (len(shape) - len(rows))), shape)


def _run(jaxpr: Any, consts: list[Any], values: list[Any], deps: list[Rows]) -> list[tuple[Any, Rows]]:
    """Values where they are known and dependences where they are not, for the outputs of a program."""

    def step(eqn: Any, given: list[tuple[Any, Rows]]) -> list[tuple[Any, Rows]]:
        inputs, entering = [value for value, _ in given], [dep for _, dep in given]
        if any(entering):
            return [(None, dep) for dep in _step(eqn, inputs, entering)]
        inner = called(eqn)
        if inner is not None and eqn.primitive.name in ("jit", "pjit", "custom_jvp_call"):
            return _run(*inner, inputs, entering)
        return [(value, {}) for value in evaluated(eqn.primitive, eqn.params, inputs)]

    given = [(None if dep else value, dep) for value, dep in zip(values, deps, strict=True)]
    return walked(jaxpr, consts, given, step, lambda value, aval: (value, {}))


def _step(eqn: Any, inputs: list[Any], deps: list[Rows]) -> list[Rows]:
    """The dependences of an operation's results."""
    name, params = eqn.primitive.name, eqn.params
    inner = next((params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params), None)
    if inner is not None and name not in ("scan", "while"):
        closed = hasattr(inner, "consts")
        program, consts = (inner.jaxpr, list(inner.consts)) if closed else (inner, [])
        if len(program.invars) == len(inputs):
            out = _run(program, consts, inputs, deps)
            return [
                {s: np.broadcast_to(i, v.aval.shape) for s, i in d.items()}
                for (_, d), v in zip(out, eqn.outvars, strict=True)
            ]
    if name == "cond":
        return _branches(eqn, inputs, deps)
    sites = sorted({site for dep in deps for site in dep})
    results: list[Rows] = [{} for _ in eqn.outvars]
    for site in sites:
        ids = [
            np.broadcast_to(dep.get(site, np.int32(NONE)), v.aval.shape)
            for dep, v in zip(deps, eqn.invars, strict=True)
        ]
        for result, found, var in zip(results, _site(eqn, name, inputs, deps, ids), eqn.outvars, strict=True):
            result[site] = np.broadcast_to(found, var.aval.shape)
    return results


def _site(eqn: Any, name: str, inputs: list[Any], deps: list[Rows], ids: list[np.ndarray]) -> list[np.ndarray]:
    """The rows of one site that the results depend on."""
    shapes = [v.aval.shape for v in eqn.outvars]
    if name in ELEMENTWISE:
        return [merge(*(np.broadcast_to(i, shapes[0]) for i in ids))]
    if name in MOVEMENT and not any(deps[MOVEMENT[name] or len(deps) :]):
        return moved(eqn, inputs, ids, MOVEMENT[name])
    if (name.startswith("reduce_") and "axes" in eqn.params) or name in ("argmax", "argmin"):
        return [reduced(merge(*ids), tuple(eqn.params["axes"]))]
    if name.startswith("cum") or name == "sort":
        axis = eqn.params["axis"] if "axis" in eqn.params else eqn.params["dimension"]
        return [along(merge(*ids), axis)] * len(shapes)
    if name == "dot_general":
        return [contracted(ids, eqn.params["dimension_numbers"], shapes[0])]
    if name == "gather":
        return [gathered(ids, bool(deps[1]), eqn, inputs, shapes[0])]
    everything = merge(*(reduced(i, tuple(range(i.ndim))) for i in ids))
    return [np.broadcast_to(everything, shape) for shape in shapes]


def moved(eqn: Any, inputs: list[Any], ids: list[np.ndarray], operands: int) -> list[np.ndarray]:
    """The operation itself, done to row indices."""
    given = [*(ids[:operands] if operands else ids), *(inputs[operands:] if operands else [])]
    extra = {"fill_value": NONE} if eqn.primitive.name == "gather" else {}
    if in_numpy(eqn.primitive.name):
        return fold(eqn.primitive, eqn.params, [np.asarray(g) for g in given])
    results = bind(eqn.primitive, {**eqn.params, **extra}, [jax.numpy.asarray(g) for g in given])
    return [np.asarray(result) for result in results]


def _branches(eqn: Any, inputs: list[Any], deps: list[Rows]) -> list[Rows]:
    """Any branch may be taken, and which one is taken touches every result."""
    runs = [_run(b.jaxpr, list(b.consts), inputs[1:], deps[1:]) for b in eqn.params["branches"]]
    results: list[Rows] = []
    for position, var in enumerate(eqn.outvars):
        parts = [run[position][1] for run in runs]
        parts.append({s: spread(i, var.aval.shape) for s, i in deps[0].items()})
        sites = {site for part in parts for site in part}
        shape = var.aval.shape
        results.append({s: merge(*(np.broadcast_to(p.get(s, np.int32(NONE)), shape) for p in parts)) for s in sites})
    return results
