"""The model in a user's Python file."""

import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpyro

from jensen._base.errors import ModelError, nearest
from jensen._program.contract import AbstractProgram
from jensen._program.programs import as_program
from jensen._program.user_code import blame, user_frame

Model = Callable[..., Any] | AbstractProgram


@dataclass(frozen=True)
class ModelFile:
    """A model, its name in the file, and the file's own `prepare(data)` where it has one."""

    name: str
    model: Model
    prepare: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None

    def arguments(self) -> set[str] | None:
        """Names of the data the model takes; None where it takes any."""
        names = as_program(self.model).arguments
        return None if names is None else set(names)

    def prepared(self, data: dict[str, Any]) -> dict[str, Any]:
        """The data after the file's own `prepare`, which may return None to leave them as they are."""
        if self.prepare is None:
            return data
        try:
            out = self.prepare(data)
        except Exception as error:
            raised = blame(error, self.prepare, data)
            raise ModelError(raised.what.replace("The model", "`prepare`", 1), raised.where, raised.remedy) from error
        return data if out is None else dict(out)


def load_model(path: Path, name: str | None = None) -> ModelFile:
    """Run a Python file and pick its model: `name`, else the one called `model`, else the only one there is.

    Candidates are the file's public functions that call NumPyro, themselves or through the file's other functions, and
    its `jn.LogDensity` objects; a function that another candidate calls is a part, not a model. Raises a `ModelError`
    that lists the candidates where the choice is not clear, or shows the user's line where the file raises.
    """
    module = _run(path)
    found = candidates(module)
    prepare = vars(module).get("prepare")
    prepare = prepare if inspect.isfunction(prepare) and "prepare" not in found else None
    listing = ", ".join(found) or "none"
    if name is not None:
        chosen = vars(module).get(name)
        if not callable(chosen) and not isinstance(chosen, AbstractProgram):
            what = "is not a function or a LogDensity" if name in vars(module) else "is not in the file"
            raise ModelError(f"'{name}' {what}.", f"File: {path}.", nearest(name, found))
        return ModelFile(name, chosen, prepare)
    if "model" in found or callable(vars(module).get("model")):
        return ModelFile("model", vars(module)["model"], prepare)
    if len(found) == 1:
        return ModelFile(*next(iter(found.items())), prepare)
    if not found:
        functions = [n for n, value in vars(module).items() if _own(value, module)]
        raise ModelError(
            "The file has no model.",
            f"File: {path}; functions: {', '.join(functions) or 'none'}.",
            "Define a function that calls numpyro.sample, or a jn.LogDensity.",
        )
    raise ModelError(
        f"The file has several models: {listing}.",
        f"File: {path}.",
        f"Choose one with --model {next(iter(found))}, or call one of them `model`.",
    )


def _run(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise ModelError("The model file does not exist.", f"File: {path}.", "Pass a Python file with a NumPyro model.")
    spec = importlib.util.spec_from_file_location(f"_jensen_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ModelError("The model file is not a Python file.", f"File: {path}.", "Its name should end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as `python MODEL.py` would, so that it can import its neighbours
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ModelError(
            f"The model file is not valid Python: {error.msg}.",
            f"{Path(error.filename or path).name}, line {error.lineno}: {line}",
        ) from error
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        place = user_frame(error)
        raise ModelError(
            f"The model file raised {said.removesuffix('.')}.",
            f"At {place}." if place else f"File: {path}.",
            "Let the file run by itself first: python MODEL.py.",
        ) from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def candidates(module: types.ModuleType) -> dict[str, Model]:
    """Names -> models of a module, in the order of the file."""
    space = vars(module)
    own = {name: inspect.unwrap(value) for name, value in space.items() if _own(value, module)}
    calls = {name: _names(value.__code__) for name, value in own.items()}
    uses = {name for name in own if _samples(calls[name], space)}
    while True:
        wider = uses | {name for name in own if calls[name] & uses}
        if wider == uses:
            break
        uses = wider
    parts = {part for name in uses for part in calls[name] & uses if part != name}
    densities = {name: value for name, value in space.items() if isinstance(value, AbstractProgram)}
    inside = {value.fn for value in densities.values()}
    models = {n: space[n] for n in own if n in uses - parts and not n.startswith("_") and space[n] not in inside}
    return {name: value for name, value in (models | densities).items()}


def _own(value: Any, module: types.ModuleType) -> bool:
    return (
        inspect.isfunction(value) and value.__module__ == module.__name__ and inspect.isfunction(inspect.unwrap(value))
    )


def _names(code: types.CodeType) -> set[str]:
    """Global and attribute names in a function, inner functions included."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*(_names(part) for part in inner))


def _samples(names: set[str], space: dict[str, Any]) -> bool:
    """Whether a function with these names calls `numpyro.sample` or `numpyro.factor`, however it was imported."""
    if names & {"sample", "factor"} and any(space.get(name) is numpyro for name in names):
        return True
    return any(space.get(name) in (numpyro.sample, numpyro.factor) for name in names if callable(space.get(name)))
