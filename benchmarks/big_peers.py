"""R's lme4 and glmmTMB on the models of `big.py` that they know: maximum likelihood, with a curvature.

Debian and Ubuntu have them as packages, r-cran-lme4 and r-cran-glmmtmb.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

FORMULAS = {
    "counts": ("glmmTMB", "y ~ x + (1 | row)", "poisson"),
    "slopes": ("glmmTMB", "y ~ x + (1 | group) + (0 + x | group)", "binomial"),
    "correlated": ("glmmTMB", "y ~ x + (x | group)", "binomial"),
    "intercepts": ("glmmTMB", "y ~ x.1 + x.2 + x.3 + (1 | group)", "binomial"),
    "insteval": ("lmer", "y ~ service + (1 | student) + (1 | lecturer) + (1 | dept)", ""),
    "insteval_binary": ("glmmTMB", "y ~ service + (1 | student) + (1 | lecturer) + (1 | dept)", "binomial"),
}
"""Model -> function, formula, family."""

SCRIPT = """
suppressMessages({{library(lme4); {library}}})
d <- read.csv("{path}")
seconds <- system.time(m <- {call})
fixed <- {fixed}
error <- sqrt(diag(as.matrix({covariance})))
parts <- {parts}
sds <- unlist(lapply(parts, function(p) attr(p, "stddev")))
rho <- unlist(lapply(parts, function(p) {{ r <- attr(p, "correlation"); r[lower.tri(r)] }}))
shown <- c(sprintf("%s %.3f ± %.3f", names(fixed), fixed, error), sprintf("sd of %s %.3f", names(sds), sds),
           sprintf("correlation %.3f", rho))
cat(sprintf("%.1f CPU s  ", seconds[1] + seconds[2]), paste(shown, collapse = ", "), "\\n")
"""


def run(name: str, data: dict) -> None:
    """Fit and print one line; a sentence where R or the package is not there, or does not know the model."""
    if name not in FORMULAS:
        print(f"{'':10} {'R':>7}  has no peer of this model.", flush=True)
        return
    function, formula, family = FORMULAS[name]
    package = "lme4" if function == "lmer" else "glmmTMB"
    if (
        shutil.which("Rscript") is None
        or subprocess.run(["Rscript", "-e", f"library({package})"], capture_output=True, check=False).returncode
    ):
        print(f"{'':10} {'R':>7}  skipped: R's {package} is not installed.", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        _write(path, data)
        if function == "lmer":
            call, own = f"lmer({formula}, d, REML = FALSE)", ("", "fixef(m)", "vcov(m)", "VarCorr(m)")
        else:
            call = f"glmmTMB({formula}, d, family = {family})"
            own = ("library(glmmTMB)", "fixef(m)$cond", "vcov(m)$cond", "VarCorr(m)$cond")
        keys = ("library", "fixed", "covariance", "parts")
        script = SCRIPT.format(path=path, call=call, **dict(zip(keys, own, strict=True)))
        found = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=False)
    print(f"{'':10} {package:>7}  {found.stdout.strip() or found.stderr.strip()[-200:]}", flush=True)


def _write(path: Path, data: dict) -> None:
    """The columns as a table; those of a matrix as name.1, name.2, ..."""
    columns = {}
    for name, values in data.items():
        values = np.asarray(values)
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}.{k + 1}": column for k, column in enumerate(values.T)}
    columns["row"] = np.arange(len(next(iter(columns.values()))))
    table = np.stack(list(columns.values()), axis=1)
    np.savetxt(path, table, delimiter=",", header=",".join(columns), comments="", fmt="%.10g")
