"""The commands and their options; the work is in the modules beside this one."""

from pathlib import Path
from typing import Annotated

import typer

from jensen._cli.outputs import Outputs
from jensen._cli.session import Session

app: typer.Typer = typer.Typer(
    help="Variational inference with a verdict: fit a NumPyro model and learn how far to trust the answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 trusted or usable, 3 untrusted, 1 failed, 2 wrong usage, 130 interrupted too early.",
)

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL.py", help="Python file with a NumPyro model.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", "-d", metavar="FILE", help="JSON, CSV, npz or Parquet; names as in the model.")
]
NameOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Which model of the file (default: `model`, or the only one)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same bits.")]


def _version(wanted: bool) -> None:
    if wanted:
        from jensen._base.version import __version__

        typer.echo(f"jensen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    del version


@app.command(help="Fit a model: summary, evidence and a verdict.")
def fit(
    path: ModelArgument,
    data: DataOption = None,
    method: Annotated[str, typer.Option("--method", "-m", help="auto, advi, laplace or pathfinder.")] = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", metavar="KEY=VALUE", help="An option of the method; repeatable."),
    ] = None,
    model: NameOption = None,
    seed: SeedOption = 0,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="SECONDS", help="End after so long with the best so far.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Save the fit.")] = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write an HTML report.")] = None,
    plots: Annotated[Path | None, typer.Option("--plots", metavar="DIR", help="Write PNG plots into a folder.")] = None,
    arviz: Annotated[
        Path | None, typer.Option("--arviz", metavar="FILE.nc", help="Write draws for ArviZ as netCDF.")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="How many posterior draws go to --arviz.")] = 1000,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """`jensen fit`; the help is given above, where `python -OO` leaves it."""
    from jensen._cli import commands

    session = Session(as_json, quiet, debug)
    with session.guard():
        outputs = Outputs(out, report, plots, arviz, draws)
        status = session.status(commands.fit(session, path, data, model, method, option or [], seed, outputs, budget))
    raise typer.Exit(status)


@app.command(help="Show what jensen sees in a model, and what it would do; nothing is fitted.")
def explain(
    path: ModelArgument,
    data: DataOption = None,
    model: NameOption = None,
    latex: Annotated[bool, typer.Option("--latex", help="The model as LaTeX instead of a table.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """`jensen explain`; the help is given above, where `python -OO` leaves it."""
    from jensen._cli import commands

    session = Session(as_json, debug=debug)
    with session.guard():
        commands.explain(session, path, data, model, latex)
        status = session.status(0)
    raise typer.Exit(status)


@app.command(help="Show the verdict on a saved fit, with everything that was measured.")
def check(
    path: Annotated[Path, typer.Argument(metavar="FIT", help="A file written by `jensen fit --out` or Fit.save.")],
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write an HTML report.")] = None,
    plots: Annotated[Path | None, typer.Option("--plots", metavar="DIR", help="Write PNG plots into a folder.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """`jensen check`; the help is given above, where `python -OO` leaves it."""
    from jensen._cli import commands

    session = Session(as_json, debug=debug)
    with session.guard():
        status = session.status(commands.check(session, path, Outputs(report=report, plots=plots)))
    raise typer.Exit(status)


@app.command(help="Fit two real models, with everything that jensen has to say about them.")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where models, data and results go.")] = Path(
        "demo-out"
    ),
    seed: SeedOption = 0,
    debug: DebugOption = False,
) -> None:
    """`jensen demo`; the help is given above, where `python -OO` leaves it."""
    from jensen._cli import demonstration

    session = Session(debug=debug)
    with session.guard():
        status = session.status(demonstration.run(session, out, seed))
    raise typer.Exit(status)
