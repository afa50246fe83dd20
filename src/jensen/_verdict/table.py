"""The summary table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jensen._base.errors import OptionError, nearest
from jensen._verdict.importance import weighted_moments
from jensen._verdict.moments import flatten

if TYPE_CHECKING:
    from jensen._fit.result import Fit


VALUES = 20_000_000
"""Values drawn at most for the rows of latents that are integrated out."""
QUANTILES = {"q5": 0.05, "median": 0.5, "q95": 0.95}


def site_of(row: object) -> str:
    """The site of a row `site`, `site[i]`, `site=value` or `site[i]=value`."""
    return str(row).partition("[")[0].partition("=")[0]


def summarise(fit: Fit, var_names: list[str] | None, raw: bool) -> pd.DataFrame:
    """One row per scalar; weighted moments of the pool where the verdict says usable, plain ones of q otherwise."""
    var_names = _listed(var_names)
    if "summary" in fit.stored:
        return _rows(fit.stored["summary"]["raw" if raw else "best"], var_names)
    pool, draws = fit.pool, fit._pool_draws
    given = {
        **draws,
        **{site.name: None for site in fit.structure.conditional + fit.structure.deterministic},
        **fit._probabilities,
    }
    for name in var_names or ():
        if name not in given:
            raise OptionError(f"There is no site '{name}'.", "Argument: var_names.", nearest(name, given))
    whole, draws = draws, {name: draws[name] for name in (var_names or draws) if name in draws}
    corrected = not raw and fit.check().verdict == "usable"
    table, names = flatten(draws or whole)
    half = pool.half
    weights = pool.weights if corrected else np.concatenate([np.full(half, 1.0 / half), np.zeros(len(table) - half)])
    used = weights > 0
    table_used, weights_used = table[used], weights[used]
    mean, sd, error = weighted_moments(table_used, weights_used)
    q5, median, q95 = _quantiles(table_used, weights_used, tuple(QUANTILES.values()))
    columns = {"mean": mean, "sd": sd, "q5": q5, "median": median, "q95": q95, "mcse_mean": error}
    if corrected:
        columns |= {"q_mean": table[:half].mean(axis=0), "q_sd": table[:half].std(axis=0)}
    frame = pd.DataFrame(columns, index=pd.Index(names, name="parameter"))
    if not draws:  # only latents that were integrated or summed out
        frame, names = frame.iloc[:0], []
    _exact(frame, fit, list(draws), corrected)
    response = fit.answer.linear_response(names) if fit.target is not None and names else None
    if response is not None:
        frame["lr_sd"] = response
    for column, values in (fit.answer.columns(names) if fit.target is not None else {}).items():
        frame[column] = values
    if fit.structure.conditional:
        frame = pd.concat([frame, _conditional(fit, var_names, raw)])
    return _with_states(frame, fit, var_names, corrected)


def _with_states(frame: pd.DataFrame, fit: Fit, var_names: list[str] | None, corrected: bool) -> pd.DataFrame:
    """With a row `site[i]=value` for every state of small discrete latents: its probability and the error of that."""
    parts = [frame]
    for site, found in fit._probabilities.items():
        if var_names is not None and site not in var_names:
            continue
        own, right = found.own.reshape(-1), found.corrected.reshape(-1)
        p, error = (right, found.error) if corrected else (own, found.own_error)
        columns = {"mean": p, "sd": np.sqrt(p * (1.0 - p)), "mcse_mean": error.reshape(-1)}
        columns |= {name: (p > 1.0 - level).astype(float) for name, level in QUANTILES.items()}
        if corrected:
            columns |= {"q_mean": own, "q_sd": np.sqrt(own * (1.0 - own))}
        index = pd.Index(found.names(site), name="parameter")
        parts.append(pd.DataFrame(columns, index=index).reindex(columns=frame.columns))
    if not parts[1:]:
        return frame
    whole: pd.DataFrame = pd.concat([part.dropna(axis="columns", how="all") for part in parts])
    return whole.reindex(columns=frame.columns).rename_axis("parameter")


def _conditional(fit: Fit, var_names: list[str] | None, raw: bool) -> pd.DataFrame:
    """Rows of the latents that are integrated out, and of what depends on them."""
    if var_names and all(name in fit._pool_draws for name in var_names):
        return pd.DataFrame()
    if raw not in fit._tables:
        fit._tables[raw] = _from_draws(fit, raw)
    table = fit._tables[raw]
    return table.loc[[site_of(row) in var_names for row in table.index], :] if var_names else table


def _from_draws(fit: Fit, raw: bool) -> pd.DataFrame:
    """All of them, from draws by the rule of `sample`.

    Where several draws are made at one θ, the error of a mean is that of the means at each.
    """
    known = fit._pool_draws
    size = sum(int(np.prod(site.shape)) for site in fit.structure.conditional)
    draws, each = _shared(fit, int(np.clip(VALUES // max(size, 1), 100, 2000)), raw)
    draws = {n: v for n, v in draws.items() if n not in known and v.dtype.kind == "f"}
    if not draws:
        return pd.DataFrame()
    table, names = flatten(draws)
    q5, median, q95 = np.quantile(table, (0.05, 0.5, 0.95), axis=0)
    means = table.reshape(-1, each, table.shape[1]).mean(axis=1)
    error = means.std(axis=0) / np.sqrt(len(means))
    columns = {"mean": table.mean(axis=0), "sd": table.std(axis=0), "q5": q5, "median": median, "q95": q95}
    return pd.DataFrame(columns | {"mcse_mean": error}, index=pd.Index(names, name="parameter"))


def _shared(fit: Fit, count: int, raw: bool) -> tuple[dict[str, np.ndarray], int]:
    """About so many draws by the rule of `sample`, and how many in a row share the latents that were not integrated."""
    places, each = fit.answer.places(count) if fit.target is not None else (count, 1)
    if each == 1:
        return fit.sample(places, raw=raw), 1
    if not raw and fit.check().verdict == "usable":
        rows = fit.pool.resample(places, 0)
    else:
        rows = np.arange(places) % fit.pool.half  # the first of quasi-random points are well spread
    draws = fit.answer.resampled(fit.pool, fit._pool_draws, np.repeat(rows, each), 0)
    return fit._whole(draws, 0), each


def captioned(frame: pd.DataFrame, fit: Fit) -> pd.DataFrame:
    """The table with the verdict in its attributes, as far as that is known, and over its columns where it is bad."""
    if fit.target is None and "report" not in fit.stored:
        return frame
    frame = frame.copy(deep=False)
    drawn = "importance-corrected draws" if "q_mean" in frame else "draws from q"
    report = fit.stored.get("report") or vars(fit).get("_report")
    if report is None:  # a table of raw draws does not ask for the verdict
        frame.attrs["caption"] = f"Posterior summary ({drawn}), not checked yet"
        return frame
    stopped = ["interrupted"] if fit.outcome.certificate.interrupted else []
    words = ", ".join([report.verdict, *stopped])
    frame.attrs.update(
        verdict=report.verdict,
        reasons=list(report.reasons),
        remedy=report.remedy,
        caption=f"Posterior summary ({drawn}), {words}",
    )
    if report.verdict == "untrusted" or stopped:
        frame.columns.name = words
    return frame


def _listed(var_names: Any) -> list[str] | None:
    names = [var_names] if isinstance(var_names, str) else var_names
    if names is None or (isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)):
        return None if names is None else list(names)
    raise OptionError(f"var_names must be a list of names, got {var_names!r}.", "Argument: var_names.", "Write ['mu'].")


def _exact(frame: pd.DataFrame, fit: Fit, sites: list[str], corrected: bool) -> None:
    """Means and sds of q itself, where they are known without draws, in place."""
    known = fit.answer.exact_moments() if fit.target is not None else {}
    known = {name: known[name] for name in sites if name in known}
    if known:
        _, names = flatten({name: mean[None] for name, (mean, _) in known.items()})
        mean, sd = ("q_mean", "q_sd") if corrected else ("mean", "sd")
        frame.loc[names, mean] = np.concatenate([mean.reshape(-1) for mean, _ in known.values()])
        frame.loc[names, sd] = np.concatenate([sd.reshape(-1) for _, sd in known.values()])
        if not corrected:
            frame.loc[names, "mcse_mean"] = 0.0


def _rows(table: pd.DataFrame, var_names: list[str] | None) -> pd.DataFrame:
    """The rows of a saved table that belong to these sites."""
    sites = [site_of(name) for name in table.index]
    if isinstance(var_names, str):
        raise OptionError(
            f"var_names must be a list of names, got {var_names!r}.", "Argument: var_names.", f"[{var_names!r}]"
        )
    for name in var_names or ():
        if name not in sites:
            raise OptionError(f"There is no site '{name}'.", "Argument: var_names.", nearest(name, set(sites)))
    return table if var_names is None else table.loc[[site in var_names for site in sites], :]


def _quantiles(table: np.ndarray, weights: np.ndarray, levels: tuple[float, ...]) -> list[np.ndarray]:
    order = np.argsort(table, axis=0)
    cumulative = np.cumsum(weights[order], axis=0)
    rows = [np.minimum((cumulative < level).sum(axis=0), len(table) - 1) for level in levels]
    ordered = np.take_along_axis(table, order, axis=0)
    return [ordered[row, np.arange(table.shape[1])] for row in rows]
