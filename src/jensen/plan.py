"""What jensen sees in a model before it fits: the analysed sites, and what the default method will do with them."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpyro.distributions import biject_to

from jensen._errors import DataError, ModelError, ParameterSites
from jensen.algorithms import Auto
from jensen.algorithms.auto_target import black_box
from jensen.algorithms.blackbox.recipes import planned
from jensen.algorithms.natural_gaussian import draws_per_step
from jensen.equations import printing
from jensen.equations.render import Equations, equations
from jensen.families.native import native_product
from jensen.math.precision import default_precision
from jensen.models import LogDensity, Plate, Site, Structure, Target, build
from jensen.models.build import with_dependencies
from jensen.models.learning import Opened, find_parameters
from jensen.models.log_density import LogDensityModel
from jensen.models.native import NativeTarget
from jensen.models.sources import AbstractSource

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_COLUMNS = ("site", "kind", "distribution", "support", "shape", "plates", "depends on", "what happens to it")

_CHARTS = {
    "real": "no transform",
    "real vector": "no transform",
    "real matrix": "no transform",
    "positive": "log transform",
    "nonnegative": "log transform",
    "softplus positive": "inverse softplus transform",
    "greater than": "log of the distance from the bound",
    "greater than eq": "log of the distance from the bound",
    "less than": "log of the distance from the bound",
    "less than eq": "log of the distance from the bound",
    "unit interval": "logit transform",
    "interval": "scaled logit transform",
    "open interval": "scaled logit transform",
    "circular": "scaled logit transform",
    "simplex": "stick breaking",
    "ordered vector": "first value and log gaps",
    "positive ordered vector": "log of first value and gaps",
    "corr cholesky": "partial correlations",
    "corr matrix": "partial correlations",
    "lower cholesky": "log diagonal",
    "positive definite": "Cholesky factor, log diagonal",
    "positive semi definite": "Cholesky factor, log diagonal",
    "scaled unit lower cholesky": "softplus diagonal",
    "softplus lower cholesky": "softplus diagonal",
    "zero sum": "coordinates of the zero-sum space",
}
"""Supports, by their NumPyro class, -> their map to the real line in words."""


@dataclass(frozen=True)
class Row:
    """One site of the plan; every entry is ready to be printed.

    `plates` are `name[size]`, outermost first; `depends_on` are latents; `update` says what happens to the site.
    """

    site: str
    kind: str
    distribution: str
    support: str
    shape: tuple[int, ...]
    plates: tuple[str, ...]
    depends_on: tuple[str, ...]
    update: str

    def cells(self) -> tuple[str, ...]:
        """The row as text, one entry per column."""
        shape = " × ".join(map(str, self.shape)) or "scalar"
        plates, parents = ", ".join(self.plates) or "-", ", ".join(self.depends_on) or "-"
        return self.site, self.kind, self.distribution, self.support, shape, plates, parents, self.update


@dataclass(frozen=True)
class Plan:
    """The analysed model; prints as a table. See `explain`.

    Attributes:
        model: its name. rows: one per site, in the order of the model's own execution.
        dim: D, the number of unconstrained coordinates. num_observations: observed values (elements of the observed
            sites' batch shapes); for a log density the longest first axis among its data.
        method: what `method="auto"` will do and why, in sentences.
        structure: the analysis itself, with every site's parents.
        equations: the complete conditional and the coordinate update of every block, and what is not conjugate; `None`
            for a log density, and where the analysis behind coordinate ascent cannot read the program.
    """

    model: str
    rows: tuple[Row, ...]
    dim: int
    num_observations: int
    method: tuple[str, ...]
    structure: Structure = field(repr=False)
    equations: Equations | None = field(default=None, repr=False)

    def table(self) -> Table:
        """The sites as a rich table."""
        from rich import box
        from rich.table import Table

        table = Table(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        styles = {"latent": "bold", "observed": "green", "deterministic": "dim", "factor": "yellow", "learned": "bold"}
        longest = max((len(row.site) for row in self.rows), default=0)
        for name in _COLUMNS:
            least = {"site": min(longest, 24), "kind": 8}.get(name)
            table.add_column(name, overflow="fold", min_width=least)
        for row in self.rows:
            table.add_row(*(_plain(cell) for cell in row.cells()), style=styles[row.kind])
        return table

    @property
    def title(self) -> str:
        """One line: the model, its coordinates and its data."""
        coordinates = f"{self.dim} unconstrained coordinate{'s' * (self.dim != 1)}"
        if any(row.kind == "latent" and row.update.startswith("discrete") for row in self.rows):
            coordinates += " and discrete latents"
        rows = f"{self.num_observations:,} observed value{'s' * (self.num_observations != 1)}"
        return f"{self.model}: {coordinates}, {rows if self.num_observations else 'no observed sites'}"

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        notes = [Padding(Text(f"- {sentence}"), (0, 0, 0, 2)) for sentence in self.method]
        return Group(self.table(), Text('method="auto" will do this:', style="bold"), *notes, *self.updates())

    def updates(self) -> tuple[Any, ...]:
        """The equations as rich renderables that fit their console."""
        if self.equations is None:
            return ()
        from rich.text import Text

        return (Text(), Text(printing.verdict(self.equations), style="bold"), _Equations(self.equations))

    def __str__(self) -> str:
        import io

        from rich.console import Console

        console = Console(file=io.StringIO(), width=160, color_system=None, force_jupyter=False, legacy_windows=False)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def _repr_html_(self) -> str:
        """For notebooks."""
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in _COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row.cells()) + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.method)
        return (
            f"<p><b>{html.escape(self.title)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>method=&quot;auto&quot; will do this:</p><ul>{notes}</ul>"
            + (
                f"<p><b>{html.escape(printing.verdict(self.equations))}</b></p>{printing.html_parts(self.equations)}"
                if self.equations
                else ""
            )
        )

    def latex(self) -> str:
        """The model as a generative statement, as a product over plates, and every block's complete conditional and
        update, an `align*` environment.
        """
        from jensen.interop.latex import generative

        blocks = self.equations.latex_blocks if self.equations else ()
        lines = [line for block in blocks for line in printing.latex_lines(block)]
        text = generative(self.structure)
        return text.replace("\n\\end{align*}", "".join(f" \\\\\n{line}" for line in lines) + "\n\\end{align*}")

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form."""
        rows = [{**asdict(row), "shape": list(row.shape)} for row in self.rows]
        return {
            "model": self.model,
            "dim": self.dim,
            "num_observations": self.num_observations,
            "sites": rows,
            "method": list(self.method),
            "equations": printing.as_dict(self.equations) if self.equations else None,
        }


def _learned(row: Row) -> Row:
    """The row of a parameter: a point, in spite of the latent that stands for it in the analysis."""
    return replace(row, kind="learned", distribution="-", update="maximised with q: a point estimate, no posterior")


def explain(model: Callable[..., Any] | LogDensity, data: Mapping[str, Any] | AbstractSource | None = None) -> Plan:
    """What jensen sees in a model: sites, supports, plates, dependencies, what `method="auto"` will do, its equations.

    For every conjugate block these are its complete conditional and its coordinate update in the usual parameters, each
    term with the site that it comes from; for what is not conjugate, the term, the source line and the remedy.
    `equations.updates` holds the same equations as expressions that `jensen.equations.update.values` evaluates.

    Of a source of batches the first one is shown.

    jensen compiles and evaluates nothing here; NumPyro may check the constant parameters of a distribution. Raises the
    errors that `jn.fit` raises before it compiles.

    Example:
        >>> import jensen as jn, numpyro, numpyro.distributions as dist
        >>> def model(y):
        ...     mu = numpyro.sample("mu", dist.Normal(0, 10))
        ...     numpyro.sample("y", dist.Normal(mu, 1), obs=y)
        >>> plan = jn.explain(model, {"y": [1.0, 2.0, 3.0]})
        >>> plan.dim, [row.site for row in plan.rows]
        (1, ['mu', 'y'])
    """
    if isinstance(data, AbstractSource):
        data = data.example().arguments
    plain = isinstance(model, LogDensity)
    function = model.fn if plain else model
    name = getattr(function, "__name__", type(function).__name__)
    try:
        target = build(model, data, default_precision(), evaluable=False)
    except ParameterSites:  # learned parameters are shown as blocks with a flat prior
        opened = Opened(function, find_parameters(function, data))
        plan = explain(opened, data)
        return replace(plan, rows=tuple(_learned(row) if row.site in opened.points else row for row in plan.rows))
    except ModelError as error:
        found = None if plain or not callable(model) else _equations(model, data)
        discrete = {s.name for s in found.derivation.sites.values() if s.values is not None} if found else set()
        if found is None or not discrete or any(o.site in discrete for o in found.obstacles):
            return _black_box_plan(name, *black_box(model, data, default_precision(), error, evaluable=False), found)
        return _discrete_plan(name, found)
    structure = with_dependencies(target)
    if plain:
        structure = _with_density(structure)
    rows = tuple(_row(site) for site in structure.sites.values())
    observations = _data_rows(target) if plain else sum(_batch(site) for site in structure.observed)
    given = plain and all(not isinstance(value, (int, tuple)) for value in model.shapes_or_init.values())
    found = None if plain else _equations(model, data)
    method = _method(target, given)
    if found is not None and found.conjugate:
        compared = len(found.updates) > 1 and target.dim <= Auto().dense_limit
        method = _conjugate_method(method, compared)
        rows = tuple(_with_factor(row, found, compared) for row in rows)
    return Plan(name, rows, structure.dim, observations, method, structure, found)


def _conjugate_method(gaussian: tuple[str, ...], compared: bool) -> tuple[str, ...]:
    """What `Auto` does first where every block is conjugate, and the Gaussians that it compares with, if any."""
    first = "Coordinate ascent: every block is conjugate, and is set to its optimal factor in turn (equations below)."
    if not compared:
        return (first, "A verdict on the result from importance weights; see fit.check().")
    return (first, "Where the data are not large, a Gaussian too, kept if its bound is higher:", *gaussian)


def _with_factor(row: Row, found: Equations, compared: bool) -> Row:
    """The row with its factor of coordinate ascent before what a Gaussian would do."""
    own = [b for b in found.blocks if row.kind == "latent" and row.site in b.name.split("+")]
    if not own:
        return row
    factor = own[0].head.partition("= ")[2]
    return replace(row, update=f"{factor}, updated exactly" + (f"; or {row.update}" if compared else ""))


def _equations(model: Any, data: Mapping[str, Any] | None) -> Equations | None:
    """The equations, or `None` where the program cannot be read (the Gaussian methods may still be able to)."""
    try:
        return equations(model, data)
    except (ModelError, DataError):
        return None


def _discrete_plan(name: str, found: Equations) -> Plan:
    """The plan of a model with discrete latents, which coordinate ascent analyses."""
    parents: dict[str, dict[str, None]] = {site: {} for site in found.derivation.sites}
    for entry in found.derivation.terms:
        parents[entry.site] |= dict.fromkeys(a.site for a in entry.term.atoms if a.site != entry.site)
    sites = {}
    for site in found.derivation.sites.values():
        kind = "factor" if site.distribution == "factor" else "observed" if site.observed else "latent"
        shape = () if kind != "latent" or site.values is not None else biject_to(site.support).inverse_shape(site.shape)
        base = "Factor" if kind == "factor" else site.distribution
        depends = tuple(n for n in found.derivation.sites if n in parents[site.name])
        what = (site.name, kind, base, site.support, site.shape, site.event_dim, site.plates)
        sites[site.name] = Site(*what, shape, depends, site.masked, site.data_key)
    structure = Structure(sites, {p.name: p for s in sites.values() for p in s.plates})
    discrete = {s.name: s for s in found.derivation.sites.values() if s.values is not None}
    rows = []
    for site in sites.values():
        row = _row(site)
        if site.name in discrete:
            row = replace(row, update=f"discrete, {len(discrete[site.name].values)} values: a categorical factor")  # type: ignore[arg-type]
        elif site.kind == "latent":
            own = [b for b in found.blocks if site.name in b.name.split("+")]
            row = replace(row, update=own[0].head.partition("= ")[2] if own else "not conjugate")
        rows.append(row)
    dim = sum(s.size for s in sites.values() if s.kind == "latent" and s.name not in discrete)
    count = sum(_batch(site) for site in structure.observed)
    method = ("The model has discrete latents: coordinate ascent updates their probabilities exactly.",)
    return Plan(name, tuple(rows), dim, count, method, structure, found)


def _black_box_plan(name: str, target: NativeTarget, why: str, found: Equations | None) -> Plan:
    """The plan of a model that only black-box VI takes."""
    structure = with_dependencies(target)
    if isinstance(target.model, LogDensityModel):
        structure = _with_density(structure)
    factors = native_product(target.structure.latents).factors
    rows = tuple(
        replace(_row(site), update=planned(factors[site.name], target.differentiable))
        if site.name in factors
        else _row(site)
        for site in structure.sites.values()
    )
    dim = sum(site.size for site in structure.latents if not site.discrete)
    observations = sum(_batch(site) for site in structure.observed)
    method = (
        why,
        "Black-box VI: a native factor for each latent, by stochastic gradients of the bound (jn.bbvi()). Which "
        "gradient each factor gets is measured at the start of the fit; fit.status says it.",
        "Where all latents are discrete with at most 65536 joint states, coordinate ascent on their table instead.",
        "A verdict on the result from importance weights; see fit.check().",
    )
    return Plan(name, rows, dim, observations, method, structure, found)


def _with_density(structure: Structure) -> Structure:
    """A log density has one term, which depends on everything."""
    parents = tuple(site.name for site in structure.latents)
    density = Site("log_density", "factor", "LogDensity", None, (), 0, (), parents=parents)
    return Structure({**structure.sites, "log_density": density}, structure.plates)


def _row(site: Site) -> Row:
    plates = tuple(f"{plate.name}[{plate.size}]" for plate in site.plates)
    support = describe_support(site.support) if site.kind == "latent" else "-"
    given = "-" if site.distribution in ("LogDensity", "Deterministic", "Factor") else site.distribution
    return Row(site.name, site.kind, given, support, site.shape, plates, site.parents, _update(site))


def _summing(site: Site) -> str:
    if site.values is None:
        return "discrete: summed out of the joint exactly"
    states = f"{len(site.values)} states"
    if site.scanned:
        return f"summed out exactly: {states}, by forward-backward over {site.shape[0]} steps"
    rows = "".join(f" for each {plate.name}" for plate in site.plates[:1])
    return f"summed out exactly: {states}{rows}"


def _update(site: Site) -> str:
    if site.kind == "latent" and getattr(site.support, "is_discrete", False):
        return _summing(site)
    if site.kind == "latent":
        count = f"{site.size} coordinate{'s' * (site.size != 1)}"
        chart = describe_chart(site.support)
        return f"Gaussian on the unconstrained space: {chart}, {count}"
    if site.kind == "observed":
        key = f" (data key '{site.data_key}')" if site.data_key else ""
        return f"observed{key}{', partly masked' if site.masked else ''}"
    if site.kind == "factor":
        return "added to the log joint"
    return "computed from the draws"


def describe_support(support: Any) -> str:
    """`positive`, `interval (0, 5)`, `simplex`, ...; bounds that are arrays are shown as `…`."""
    base, words = _words(support)
    if getattr(base, "is_discrete", False):
        return _integers(base, words)
    low, high = (_bound(getattr(base, name, None)) for name in ("lower_bound", "upper_bound"))
    if words.endswith("interval"):
        return f"interval ({low}, {high})"
    if words.startswith("greater than"):
        return f"above {low}"
    if words.startswith("less than"):
        return f"below {high}"
    return {"circular": "circle (-π, π)"}.get(words, words)


def _integers(base: Any, words: str) -> str:
    low, high = (_bound(getattr(base, name, None)) for name in ("lower_bound", "upper_bound"))
    if words == "integer interval":
        return f"integers {low} to {high}"
    known = {"boolean": "0 or 1", "integer nonnegative": "counts", "integer positive": "positive counts"}
    return known.get(words, words)


def describe_chart(support: Any) -> str:
    """How a support is mapped to the whole real line, in words: `log transform`, `stick breaking`."""
    words = _words(support)[1]
    return _CHARTS.get(words, f"NumPyro's transform of {words}")


def _words(support: Any) -> tuple[Any, str]:
    """The support of one event and its class name as words: `_GreaterThan` is `greater than`."""
    while type(support).__name__ == "_IndependentConstraint":
        support = support.base_constraint
    name = type(support).__name__.lstrip("_")
    return support, "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _bound(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "…"


def _batch(site: Site) -> int:
    return int(np.prod(site.shape[: len(site.shape) - site.event_dim], dtype=int))


def _data_rows(target: Target) -> int:
    sizes = [leaf.shape[0] for leaf in jax.tree.leaves(target.model) if np.ndim(leaf)]
    return max(sizes, default=0)


def _method(target: Target, initial: bool) -> tuple[str, ...]:
    """What `Auto` with its defaults will do, from the same numbers that it decides by."""
    auto, dim = Auto(), target.dim
    starts = max(2, auto.num_starts // 4) if target.heavy else auto.num_starts
    climbs = f"{starts} climbs of the log density from different starts" + (
        ", the first at the initial values given" if initial else ""
    )
    out = [
        f"{climbs}: few, because the data are large and every evaluation costs."
        if target.heavy
        else f"{climbs}; the data are small, so all climb together at little more than the cost of one."
    ]
    if dim > auto.dense_limit:
        rank = min(auto.rank, dim)
        out += [
            f"A mean-field Gaussian on fresh draws: D = {dim} is above {auto.dense_limit}, where {dim} × {dim} "
            "covariances become too dear.",
            f"Then a low-rank Gaussian (rank {rank}), kept only if its bound on common draws is higher by more "
            "than the noise.",
        ]
    else:
        out += [
            "The curvature at the highest mode, as a Gaussian start; other modes are reported by their share of the "
            f"evidence (D = {dim} is within {auto.dense_limit}, so dense {dim} × {dim} matrices are cheap).",
            f"A full-rank Gaussian by natural gradients, {draws_per_step(dim)} fresh symmetric draws a step, kept if "
            "its bound on common draws is higher.",
        ]
    out.append("A verdict on the result from importance weights and a Hamiltonian test; see fit.check().")
    return tuple(out)


class _Equations:
    """The equations, laid out for the width of the console."""

    def __init__(self, found: Equations):
        self.found = found

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from rich.text import Text

        for line in printing.text_lines(self.found, min(options.max_width, 120)):
            yield Text(line, no_wrap=True, overflow="fold")


def _plain(text: str) -> Any:
    """Text that rich does not read as markup: site names may hold brackets."""
    from rich.text import Text

    return Text(text)


__all__ = ["Plan", "Plate", "Row", "describe_chart", "describe_support", "explain"]
