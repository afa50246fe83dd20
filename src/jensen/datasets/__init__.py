"""Data that come with jensen, each with its source in `datasets/README.md`, and the two models of the demonstration."""

from pathlib import Path

import numpy as np

_HERE = Path(__file__).parent

MODELS = _HERE / "models"
"""Folder of plain NumPyro files, one model each, which `jensen fit` reads as they are."""


def eight_schools() -> dict[str, np.ndarray]:
    """Effects of coaching on test scores in eight schools, `y`, and their standard errors, `sigma`. Rubin (1981)."""
    return {
        "sigma": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
        "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
    }


def randhie() -> dict[str, np.ndarray]:
    """The RAND Health Insurance Experiment: 20,190 person-years, ten columns; `mdvis`, visits, is the outcome."""
    with np.load(_HERE / "randhie.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def doctor_visits() -> dict[str, np.ndarray]:
    """`randhie` by cells: visits and person-years for each insurance plan, health, limitation and level of illness.

    One entry per cell: `plan` (0..5 are the pairs (coinsurance, individual deductible) in rising order: (0 %, no),
    (0 %, yes), (25 %, no), (50 %, no), (95 %, no), (100 %, yes)), `health` (0 excellent .. 3 poor), `limited` (0, 1:
    physical limitation), `ill` (0..4: up to 5, 10, 15, 20 and more chronic diseases), `years` (person-years) and
    `visits`. All 20,190 rows are counted.
    """
    rows = randhie()
    _, plan = np.unique(np.stack([rows["lncoins"].round(3), rows["idp"]], axis=1), axis=0, return_inverse=True)
    health = rows["hlthg"] + 2 * rows["hlthf"] + 3 * rows["hlthp"]
    limited = (rows["physlm"] > 0.5).astype(int)
    ill = np.searchsorted([5.0, 10.0, 15.0, 20.0], rows["disea"])
    keys, cell = np.unique(np.stack([plan.ravel(), health, limited, ill], axis=1), axis=0, return_inverse=True)
    counts = {
        "years": np.bincount(cell.ravel()),
        "visits": np.bincount(cell.ravel(), weights=rows["mdvis"]).astype(int),
    }
    return {**dict(zip(("plan", "health", "limited", "ill"), keys.T.astype(int), strict=True)), **counts}


__all__ = ["MODELS", "doctor_visits", "eight_schools", "randhie"]
