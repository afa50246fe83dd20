"""The analysed model as it is shown: a table of its sites, what the default method will do, and its equations."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from jensen._explain.equations import printing
from jensen._explain.equations.render import Equations
from jensen._model import Structure

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_COLUMNS = ("site", "kind", "distribution", "support", "shape", "plates", "depends on", "what happens to it")


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
        from jensen._explain.latex import generative

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
