"""`jensen demo`: two real models, from file to verdict."""

import ast
import csv
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from jensen._cli import commands, exit_codes, show
from jensen._cli.data_file import read_data
from jensen._cli.model_file import load_model
from jensen._cli.outputs import Outputs
from jensen._cli.session import Session
from jensen._explain.plan import explain
from jensen._fit.methods import auto
from jensen.datasets import MODELS, doctor_visits, eight_schools


@dataclass(frozen=True)
class Story:
    """One of the two models: its file, its data, and what it is about."""

    name: str
    title: str
    data: Callable[[], dict[str, np.ndarray]]
    suffix: str


STORIES = (
    Story("eight_schools", "Eight schools: does coaching raise test scores?", eight_schools, ".json"),
    Story(
        "doctor_visits",
        "Doctor visits: 20,190 person-years of the RAND Health Insurance Experiment",
        doctor_visits,
        ".csv",
    ),
)


def run(session: Session, out: Path, seed: int) -> int:
    """Fit both and leave models, data, fits, plots and reports in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    statuses: list[int] = []
    for story in STORIES:
        statuses.append(_tell(session, story, out / story.name, seed))
        if statuses[-1] == exit_codes.INTERRUPTED:
            return exit_codes.INTERRUPTED
    session.show(Text(), Rule(style="dim"), _files(out))
    name = STORIES[0].name
    again = f"{_command()} fit {out / name / 'model.py'} --data {out / name / 'data.json'}"
    session.show(Text("\nNow yours, in the same way:", "bold"))
    session.show(Text(again), soft_wrap=True)
    return exit_codes.FAILED if exit_codes.FAILED in statuses else exit_codes.OK


def _tell(session: Session, story: Story, folder: Path, seed: int) -> int:
    folder.mkdir(exist_ok=True)
    model, data = folder / "model.py", folder / f"data{story.suffix}"
    shutil.copyfile(MODELS / f"{story.name}.py", model)
    _write(story.data(), data)
    file, arrays = load_model(model), read_data(data).arrays
    about = _module_docstring(model).partition("\n\n")[2].replace("\n", " ").strip()
    session.show(Text(), Rule(Text(story.title, "bold"), style="cyan", align="left"))
    session.show(Panel(Group(Text(about)), border_style="dim", padding=(0, 1)))
    plan = explain(file.model, arrays)
    session.show(show.plan(plan, session.out.width), Text())
    outputs = Outputs(folder / "fit.jn", folder / "report.html", folder / "plots")
    return commands.run(session, file, arrays, auto(), seed, outputs, listing=False)


def _module_docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _write(arrays: dict[str, np.ndarray], path: Path) -> None:
    lists = {name: array.tolist() for name, array in arrays.items()}
    if path.suffix == ".json":
        path.write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(lists)
        writer.writerows(zip(*lists.values(), strict=True))


def _command() -> str:
    """How to call jensen from here: it may be in an environment that is not active."""
    if shutil.which("jensen"):
        return "jensen"
    script = Path(sys.argv[0])
    return os.path.relpath(script) if script.name == "jensen" else f"{sys.executable} -m jensen"


WHAT: dict[str, str] = {
    "model.py": "the model, plain NumPyro",
    "fit.jn": "the saved fit: jensen check, or jn.load",
    "report.html": "everything on one page",
    "plots": "bound trace, marginals, k̂ and pairs",
}


def _files(out: Path) -> Any:
    table = Table.grid(padding=(0, 2))
    for story in STORIES:
        for name, what in {**WHAT, f"data{story.suffix}": "its data"}.items():
            path = out / story.name / name
            if path.exists():
                table.add_row(Text(str(path) + ("/" if path.is_dir() else ""), "cyan"), Text(what))
    return Group(Text("\nFiles", "bold"), table)
