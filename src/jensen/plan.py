"""What jensen sees in a model before it fits: the analysed sites, and what the default method will do with them."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jensen.algorithms import Auto
from jensen.algorithms.natural_gaussian import draws_per_step
from jensen.math.precision import default_precision
from jensen.models import LogDensity, Plate, Site, Structure, Target, build
from jensen.models.build import with_dependencies

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
    """

    model: str
    rows: tuple[Row, ...]
    dim: int
    num_observations: int
    method: tuple[str, ...]
    structure: Structure = field(repr=False)

    def table(self) -> Table:
        """The sites as a rich table."""
        from rich import box
        from rich.table import Table

        table = Table(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        styles = {"latent": "bold", "observed": "green", "deterministic": "dim", "factor": "yellow"}
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
        rows = f"{self.num_observations:,} observed value{'s' * (self.num_observations != 1)}"
        return f"{self.model}: {coordinates}, {rows if self.num_observations else 'no observed sites'}"

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        notes = [Padding(Text(f"- {sentence}"), (0, 0, 0, 2)) for sentence in self.method]
        return Group(self.table(), Text('method="auto" will do this:', style="bold"), *notes)

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
        )

    def latex(self) -> str:
        """The model as a generative statement and as a product over plates, an `align*` environment."""
        from jensen.interop.latex import generative

        return generative(self.structure)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form."""
        rows = [{**asdict(row), "shape": list(row.shape)} for row in self.rows]
        return {
            "model": self.model,
            "dim": self.dim,
            "num_observations": self.num_observations,
            "sites": rows,
            "method": list(self.method),
        }


def explain(model: Callable[..., Any] | LogDensity, data: Mapping[str, Any] | None = None) -> Plan:
    """What jensen sees in a model: sites, supports, plates, dependencies, and what `method="auto"` will do.

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
    target = build(model, data, default_precision(), evaluable=False)
    structure = with_dependencies(target)
    plain = isinstance(model, LogDensity)
    if plain:
        structure = _with_density(structure)
    function = model.fn if plain else model
    name = getattr(function, "__name__", type(function).__name__)
    rows = tuple(_row(site) for site in structure.sites.values())
    observations = _data_rows(target) if plain else sum(_batch(site) for site in structure.observed)
    given = plain and all(not isinstance(value, (int, tuple)) for value in model.shapes_or_init.values())
    return Plan(name, rows, structure.dim, observations, _method(target, given), structure)


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


def _update(site: Site) -> str:
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
    low, high = (_bound(getattr(base, name, None)) for name in ("lower_bound", "upper_bound"))
    if words.endswith("interval"):
        return f"interval ({low}, {high})"
    if words.startswith("greater than"):
        return f"above {low}"
    if words.startswith("less than"):
        return f"below {high}"
    return {"circular": "circle (-π, π)"}.get(words, words)


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


def _plain(text: str) -> Any:
    """Text that rich does not read as markup: site names may hold brackets."""
    from rich.text import Text

    return Text(text)


__all__ = ["Plan", "Plate", "Row", "describe_chart", "describe_support", "explain"]
