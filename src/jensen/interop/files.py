"""Saved fits: a zip of plain arrays and one JSON text. Reading one cannot run code."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jensen._alone import alone
from jensen._errors import SavedFitError
from jensen.answers import kind_named
from jensen.core import Certificate, Estimates, Outcome
from jensen.diagnostics.check import as_dict, from_dict
from jensen.diagnostics.evidence import Evidence
from jensen.diagnostics.importance import Pool
from jensen.interop import archive, layout
from jensen.interop.replacing import replacing
from jensen.models.structure import Plate, Site, Structure
from jensen.result import Estimate, Fit

if TYPE_CHECKING:
    from os import PathLike

FORMAT = "jensen-fit"
VERSION = 3
KEPT = 4096
"""Draws of each kind that a file keeps."""
_POOL = ("points", "log_joint", "log_q", "log_proposal", "weights")


def save(fit: Fit, path: str | PathLike[str], complete: bool = True) -> None:
    """Write a fit: parameters of q, verdict, evidence, tables, history, structure, and draws in single precision.

    Of the importance pool, up to 4096 draws of q and 4096 corrected ones (resampled in proportion to their weights) are
    kept, so that the file stays small. An older file is replaced whole or, where something goes wrong, not at all.
    With `complete=False` nothing is computed: what is not known yet is left out, and needs the model later.
    """
    report = fit.check() if complete else fit.stored.get("report") or vars(fit).get("_report")
    evidence = fit.evidence() if complete else fit.stored.get("evidence")
    arrays: dict[str, np.ndarray] = {}
    khats, parameters = None, None
    if complete or {"pool", "draws"} <= set(fit.stored):
        pool, draws = _thin(fit.pool, fit._pool_draws, fit.seed)
        khats = [pool.khat, pool.khat_q, pool.khat_q_se, pool.even, pool.even_q]
        arrays |= {f"pool/{name}": getattr(pool, name) for name in _POOL}
        arrays |= {f"draws/{name}": values for name, values in draws.items()}
    arrays |= {f"estimates/{name}": np.asarray(value) for name, value in fit.estimates.items()}
    arrays |= {f"q/{name}": value for name, value in _parameters(fit).items()}
    if fit.outcome.linear_response is not None:
        arrays["linear_response"] = fit.outcome.linear_response
    if complete or "summary" in fit.stored:
        for kind in ("best", "raw"):
            table = fit.summary(raw=kind == "raw")
            parameters = list(table.index)
            arrays |= {f"summary/{kind}/{column}": table[column].to_numpy() for column in table.columns}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "versions": _versions(),
        "method": fit.method,
        "options": _plain(fit.options),
        "seed": fit.seed,
        "status": fit.status,
        "converged": fit.converged,
        "elbo": [fit.elbo.value, fit.elbo.se],
        "history": fit.history,
        "timings": fit.timings,
        "answer": fit.stored["answer"]["kind"] if fit.target is None else fit.answer.kind,
        "certificate": fit.outcome.certificate.as_dict(),
        "restarts": list(fit.outcome.restarts),
        "stages": list(fit.outcome.stages),
        "estimates": _estimates_out(fit.estimates),
        "report": None if report is None else as_dict(report),
        "evidence": None if evidence is None else dataclasses.asdict(evidence),
        "parameters": parameters,
        "khats": khats,
        "structure": _structure_out(fit.structure),
        "fingerprint": fit._fingerprint,
    }
    arrays["header"] = archive.text(header, default=_number)
    with replacing(path) as place:
        archive.write(place, arrays)


def _versions() -> dict[str, str]:
    import jensen

    names = ("jax", "numpyro", "numpy")
    installed = {name: importlib.metadata.version(name) for name in names}
    return {"jensen": jensen.__version__, **installed, "python": platform.python_version()}


def _parameters(fit: Fit) -> dict[str, np.ndarray]:
    """The arrays of q; those of the file that the fit came from, if it came from one."""
    return fit.answer.parameters() if fit.target is not None else fit.stored["answer"]["parameters"]


def _thin(pool: Pool, draws: dict[str, np.ndarray], seed: int) -> tuple[Pool, dict[str, np.ndarray]]:
    """The pool as draws of q (weight 0) and as many corrected draws (equal weights), without unconstrained points."""
    if not pool.points.shape[1]:
        return pool, {name: _compact(values) for name, values in draws.items()}  # came from a file
    count = min(KEPT, pool.half)
    rows = np.concatenate([np.arange(count), pool.resample(count, seed)])
    thin = dataclasses.replace(
        pool,
        points=np.zeros((2 * count, 0)),
        log_joint=pool.log_joint[rows],
        log_q=pool.log_q[rows],
        log_proposal=pool.log_proposal[rows],
        weights=np.repeat([0.0, 1.0 / count], count),
    )
    return thin, {name: _compact(values[rows]) for name, values in draws.items()}


def _compact(values: np.ndarray) -> np.ndarray:
    """Single precision, whole numbers in as few bytes as they need."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    ends = (values.min(initial=0), values.max(initial=0))
    return values.astype(np.result_type(*(np.min_scalar_type(int(end)) for end in ends), np.int8))


@alone()
def load(path: str | PathLike[str]) -> Fit:
    """Read a fit written by `Fit.save`, without its model.

    `summary`, `check`, `evidence`, `sample` and `to_arviz` work at once; `Fit.attach(model, data)` brings back what
    needs the model. Raises `SavedFitError`, and nothing else, for a file that is missing, truncated, damaged, of
    another kind, or from a newer version, and needs no more memory than the file's size gives reason for. Nothing in
    the file is executed.
    """
    where = f"File: {path}."
    remedy = "Save it again with Fit.save."
    try:
        with open(path, "rb") as file:
            header, arrays = _content(archive.Reader(file), where)
        layout.check(header, arrays)
        return _rebuild(header, arrays)
    except FileNotFoundError as error:
        raise SavedFitError("There is no such file.", where) from error
    except SavedFitError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, zipfile.LargeZipFile, archive.Damaged) as error:
        raise SavedFitError(f"The file is truncated or damaged ({error}).", where, remedy) from error
    except Exception as error:  # whatever a damaged file makes of its readers
        raise SavedFitError(
            f"The file cannot be read as a saved fit ({type(error).__name__}: {error}).", where, remedy
        ) from error


def _content(reader: archive.Reader, where: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and all other arrays, as the version of the file promises them."""
    header = json.loads(bytes(reader.array("header"))) if "header" in reader.members else None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise SavedFitError("This file is not a saved jensen fit.", where, "Pass a file written by Fit.save.")
    if header.get("version", 0) > VERSION:
        raise SavedFitError(
            f"The file has format version {header['version']}, newer than {VERSION}.", where, "Update jensen."
        )
    listed = header["version"] >= 3  # older ones have no manifest
    arrays = reader.checked() if listed else {name: reader.array(name) for name in reader.members}
    del arrays["header"]
    return header, arrays


def _rebuild(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Fit:
    kind = kind_named(header["answer"] if header["version"] > 1 else "gaussian")
    prefix = "q/" if header["version"] > 1 else "q"
    family = "" if header["version"] > 1 else header["family"]  # version 1 knew Gaussians only
    parameters = {family + name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith("q/")}
    outcome = Outcome(
        kind.restored(parameters, None),
        header["converged"],
        header["status"],
        Certificate.from_dict(header["certificate"]),
        arrays.get("linear_response"),
        tuple(header["restarts"]),
        tuple(header["stages"]),
        _estimates_in(header.get("estimates"), arrays),
    )
    stored: dict[str, Any] = {
        "answer": {"kind": kind.kind, "parameters": parameters},
        "fingerprint": header.get("fingerprint"),
    }
    if header["khats"] is not None:
        points, log_joint, log_q, log_proposal, weights = (arrays[f"pool/{name}"] for name in _POOL)
        stored["pool"] = Pool(points, log_joint, log_q, log_proposal, weights, *header["khats"])
        stored["draws"] = {
            name.removeprefix("draws/"): value.astype(float) if value.dtype.kind == "f" else value.astype(np.int32)
            for name, value in arrays.items()
            if name.startswith("draws/")
        }
    if header["report"] is not None:
        stored["report"] = from_dict(header["report"])
    if header["evidence"] is not None:
        stored["evidence"] = _evidence_in(header["evidence"])
    if header["parameters"] is not None:
        stored["summary"] = {kind: _table(arrays, kind, header["parameters"]) for kind in ("best", "raw")}
    return Fit(
        header["method"],
        header["options"],
        header["seed"],
        header["status"],
        header["converged"],
        Estimate(*header["elbo"]),
        header["history"],
        header["timings"],
        outcome,
        _structure_in(header["structure"]),
        None,
        stored,
    )


def _evidence_in(data: dict[str, Any]) -> Evidence:
    bounds = {int(k): tuple(pair) for k, pair in data["importance_weighted"].items()}
    interval = {"interval": tuple(data["interval"])} if "interval" in data else {}
    return Evidence(**{**data, "importance_weighted": bounds, **interval})


def _table(arrays: dict[str, np.ndarray], kind: str, parameters: list[str]) -> pd.DataFrame:
    prefix = f"summary/{kind}/"
    columns = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    return pd.DataFrame(columns, index=pd.Index(parameters, name="parameter"))


def _estimates_out(estimates: Estimates) -> dict[str, Any] | None:
    if not estimates:
        return None
    return {"kinds": estimates.kinds, "exact": estimates.exact, "certificate": estimates.certificate.as_dict()}


def _estimates_in(header: dict[str, Any] | None, arrays: dict[str, np.ndarray]) -> Estimates | None:
    if not header:
        return None
    values = {name: arrays[f"estimates/{name}"] for name in header["kinds"]}
    return Estimates(values, header["kinds"], header["exact"], Certificate.from_dict(header["certificate"]))


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """The options that JSON can hold, tuples of names among them."""
    kept = {}
    for name, value in options.items():
        try:
            kept[name] = json.loads(json.dumps(value))
        except TypeError:
            continue
    return kept


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _structure_out(structure: Structure) -> dict[str, Any]:
    sites = [
        {
            "name": s.name,
            "kind": s.kind,
            "distribution": s.distribution,
            "support": str(s.support),
            "shape": list(s.shape),
            "event_dim": s.event_dim,
            "plates": [p.name for p in s.plates],
            "dims": [p.dim for p in s.plates],
            "unconstrained_shape": list(s.unconstrained_shape),
            "data_key": s.data_key,
            "masked": s.masked,
            "values": None if s.values is None else s.values.tolist(),
            "integrated": s.integrated,
        }
        for s in structure.sites.values()
    ]
    plates = [p for s in structure.sites.values() for p in s.plates]
    return {"sites": sites, "plates": {p.name: p.size for p in (*plates, *structure.plates.values())}}


def _structure_in(data: dict[str, Any]) -> Structure:
    sizes = data["plates"]
    sites = {}
    for s in data["sites"]:
        plates = tuple(Plate(name, dim, sizes[name]) for name, dim in zip(s["plates"], s["dims"], strict=True))
        sites[s["name"]] = Site(
            s["name"],
            s["kind"],
            s["distribution"],
            s["support"],
            tuple(s["shape"]),
            s["event_dim"],
            plates,
            tuple(s["unconstrained_shape"]),
            (),
            s["masked"],
            s["data_key"],
            None if s.get("values") is None else np.array(s["values"]),
            integrated=s.get("integrated", False),
        )
    return Structure(sites, {p.name: p for site in sites.values() for p in site.plates})
