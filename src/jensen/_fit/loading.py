"""Fits from files. Reading one cannot run code."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jensen._base.alone import alone
from jensen._base.errors import SavedFitError
from jensen._core import Certificate, Estimates, Outcome
from jensen._core.estimates import Estimate
from jensen._fit import archive, layout
from jensen._fit.answers import kind_named
from jensen._fit.result import Fit
from jensen._fit.saving import FORMAT, POOL, VERSION
from jensen._program.structure import Plate, Site, Structure
from jensen._verdict.check import from_dict
from jensen._verdict.evidence import Evidence
from jensen._verdict.importance import Pool

if TYPE_CHECKING:
    from os import PathLike


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
        points, log_joint, log_q, log_proposal, weights = (arrays[f"pool/{name}"] for name in POOL)
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


def _estimates_in(header: dict[str, Any] | None, arrays: dict[str, np.ndarray]) -> Estimates | None:
    if not header:
        return None
    values = {name: arrays[f"estimates/{name}"] for name in header["kinds"]}
    return Estimates(values, header["kinds"], header["exact"], Certificate.from_dict(header["certificate"]))


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
