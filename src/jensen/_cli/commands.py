"""What the commands do; every function returns the exit status."""

import contextlib
from pathlib import Path
from typing import Any

from rich.text import Text

from jensen._cli import exit_codes, show
from jensen._cli.data_file import read_data
from jensen._cli.model_file import ModelFile, load_model
from jensen._cli.options import parse_method
from jensen._cli.outputs import Outputs
from jensen._cli.record import record
from jensen._cli.session import Session
from jensen._cli.signals import deferred
from jensen._core import AbstractAlgorithm
from jensen._fit.result import Fit
from jensen._verdict.check import Report


def load(session: Session, path: Path, data: Path | None, name: str | None) -> tuple[ModelFile, dict[str, Any]]:
    """The model and its data; the columns of a table that the model does not take are left out, with a note."""
    file = load_model(path, name)
    if data is None:
        return file, {}
    content = read_data(data)
    arrays, taken = file.prepared(content.arrays), file.arguments()
    if content.is_table and taken is not None:
        spare = [key for key in arrays if key not in taken]
        arrays = {key: value for key, value in arrays.items() if key in taken}
        if spare and arrays:
            session.note(f"columns that {file.name} does not take are ignored: {', '.join(spare)}")
    return file, arrays


def fit(
    session: Session,
    path: Path,
    data: Path | None,
    name: str | None,
    method: str,
    options: list[str],
    seed: int,
    outputs: Outputs,
    budget: float | None = None,
) -> int:
    """`jensen fit`."""
    outputs.check({"--data": data, "MODEL.py": path})
    algorithm = parse_method(method, options)
    file, arrays = load(session, path, data, name)
    return run(session, file, arrays, algorithm, seed, outputs, budget=budget)


def run(
    session: Session,
    file: ModelFile,
    arrays: dict[str, Any],
    algorithm: AbstractAlgorithm,
    seed: int,
    outputs: Outputs,
    *,
    budget: float | None = None,
    listing: bool = True,
) -> int:
    """Fit, keep, judge, write and show; `listing` says whether to name the files."""
    import jensen

    result = jensen.fit(file.model, arrays, algorithm, seed=seed, progress=not session.silent, budget=budget)
    report = frame = bounds = None
    try:
        with deferred():
            session.kept = outputs.keep(result)
        with session.working("checking the answer"):
            report = result.check()
            frame, bounds = result.summary(), result.evidence()
    except KeyboardInterrupt:
        return _unchecked(session, result, report, frame, outputs)
    except Exception:
        if session.kept:
            session.err.print(Text(f"The fit is in {outputs.fit}, without a verdict."), soft_wrap=True)
        raise
    problems: list[str] = []
    files = write(session, result, outputs, problems)
    for part in show.result(result, report, frame, bounds):
        session.show(part)
    if result.outcome.certificate.interrupted:
        session.err.print(Text("stopped early: this is the best approximation found so far", style="bold yellow"))
    if listing:
        list_files(session, files)
    status = exit_codes.with_problems(report.verdict, problems)
    session.emit({**record(result, report, frame, bounds, files), "exit_status": status, "problems": problems})
    return status


def _unchecked(session: Session, result: Fit, report: Report | None, frame: Any, outputs: Outputs) -> int:
    """An interruption after the fit: what there is, kept and shown."""
    with contextlib.suppress(KeyboardInterrupt), deferred():  # a second one changes nothing
        session.kept = outputs.keep(result)  # with the verdict, if that was reached
    files = {"fit": str(outputs.fit)} if session.kept else {}
    left = [name for name, value in (("verdict", report), ("summary", frame)) if value is None] + ["evidence"]
    problem = f"Interrupted while the answer was checked: left out {', '.join(left)} and all other files."
    session.show(show.footing(result))
    if report is not None:
        session.show(show.verdict(report))
    where = f"The fit is in {outputs.fit}: jn.load(...).attach(model, data) does the rest." if session.kept else ""
    session.err.print(Text.assemble(("interrupted: ", "bold yellow"), f"{problem} {where}"), soft_wrap=True)
    status = exit_codes.INTERRUPTED
    session.emit({**record(result, report, frame, None, files), "exit_status": status, "problems": [problem]})
    return status


def write(session: Session, result: Fit, outputs: Outputs, problems: list[str]) -> dict[str, Any]:
    """Write what was asked for; what could not be written is said and appended to `problems`."""
    with session.working("writing"):
        files = outputs.write(result, problems.append)
    session.kept = bool(files)
    for problem in problems:
        session.err.print(Text.assemble(("error: ", "bold red"), problem), soft_wrap=True)
    return files


def list_files(session: Session, files: dict[str, Any]) -> None:
    """Name the files that were written."""
    paths = [p for item in files.values() for p in (item if isinstance(item, list) else [item])]
    if paths:
        session.show(Text("\nWritten: " + ", ".join(paths), style="dim"))


def explain(session: Session, path: Path, data: Path | None, name: str | None, latex: bool) -> None:
    """`jensen explain`."""
    import jensen

    file, arrays = load(session, path, data, name)
    plan = jensen.explain(file.model, arrays)
    if latex:
        session.emit({**plan.as_dict(), "latex": plan.latex()})
        session.show(Text(plan.latex()), soft_wrap=True)
        return
    session.emit(plan.as_dict())
    session.show(show.plan(plan, session.out.width))


def check(session: Session, path: Path, outputs: Outputs) -> int:
    """`jensen check`."""
    import jensen

    outputs.check({"FIT": path})
    result = jensen.load(path)
    report, frame, bounds = result.check(), result.summary(), result.evidence()
    problems: list[str] = []
    files = write(session, result, outputs, problems)
    foot = Text.assemble(f"Method {result.method}, seed {result.seed}. ", show.footing(result))
    session.show(show.summary(frame, result), show.checks(report), show.evidence(bounds), foot, Text())
    session.show(show.verdict(report))
    list_files(session, files)
    status = exit_codes.with_problems(report.verdict, problems)
    session.emit({**record(result, report, frame, bounds, files), "exit_status": status, "problems": problems})
    return status
