"""Fits to files: a zip of plain arrays and one JSON text."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen._base.replacing import replacing
from jensen._base.version import __version__
from jensen._core import Estimates
from jensen._fit import archive
from jensen._program.structure import Structure
from jensen._verdict.check import as_dict
from jensen._verdict.importance import Pool

if TYPE_CHECKING:
    from os import PathLike

    from jensen._fit.result import Fit

FORMAT = "jensen-fit"
VERSION = 3
KEPT = 4096
"""Draws of each kind that a file keeps."""
POOL = ("points", "log_joint", "log_q", "log_proposal", "weights")


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
        arrays |= {f"pool/{name}": getattr(pool, name) for name in POOL}
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
    names = ("jax", "numpyro", "numpy")
    installed = {name: importlib.metadata.version(name) for name in names}
    return {"jensen": __version__, **installed, "python": platform.python_version()}


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


def _estimates_out(estimates: Estimates) -> dict[str, Any] | None:
    if not estimates:
        return None
    return {"kinds": estimates.kinds, "exact": estimates.exact, "certificate": estimates.certificate.as_dict()}


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
