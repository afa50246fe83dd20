"""The files that a fit leaves behind."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from jensen._base.errors import JensenError
from jensen._base.extras import needed, require
from jensen._fit.result import Fit

PLOTS = ("bound_trace", "marginals", "pareto", "pairs")


@dataclass(frozen=True)
class Outputs:
    """Where to write what; None where nothing was asked for. `draws` is how many go to `arviz`."""

    fit: Path | None = None
    report: Path | None = None
    plots: Path | None = None
    arviz: Path | None = None
    draws: int = 1000

    def check(self, inputs: Mapping[str, Path | None]) -> None:
        """Refuse, before anything is computed, what could not be written afterwards, or would overwrite an input.

        `inputs` are the files that are read, by what the command line calls them.
        """
        if self.plots is not None or self.report is not None:
            require("matplotlib")
            require("arviz_plots")
        named = {flag: path for flag, path in self._named().items() if path is not None}
        for flag, path in named.items():
            if path.is_dir():
                raise typer.BadParameter(f"{flag} {path} is a folder; name a file.")
            if not path.parent.is_dir():
                raise typer.BadParameter(f"{flag} {path}: there is no folder {path.parent}.")
        if self.plots is not None and self.plots.exists() and not self.plots.is_dir():
            raise typer.BadParameter(f"--plots {self.plots} is not a folder.")
        if self.plots is not None:
            named |= {f"--plots ({name})": self.plots / f"{name}.png" for name in PLOTS}
        taken = {flag: path for flag, path in inputs.items() if path is not None}
        for flag, path in named.items():
            for other, its in taken.items():
                if _same(path, its):
                    raise typer.BadParameter(f"{flag} {path} and {other} {its} are one file; name another.")
            taken[flag] = path

    def _named(self) -> dict[str, Path | None]:
        return {"--out": self.fit, "--report": self.report, "--arviz": self.arviz}

    def keep(self, fit: Fit) -> bool:
        """Save a fit that was just found, before it is looked at; whether that was asked for and possible."""
        from jensen._fit.saving import save

        if self.fit is None:
            return False
        try:
            save(fit, self.fit, complete=False)
        except (OSError, JensenError):  # `write` will say so
            return False
        return True

    def write(self, fit: Fit, failed: Callable[[str], None]) -> dict[str, Any]:
        """Write everything, the saved fit first; what cannot be written is reported, and the rest still is.

        An interruption ends it: what is not written yet is left out, and reported.
        """
        files: dict[str, Any] = {}
        jobs = dict(self._jobs(fit))
        for kind, work in jobs.items():
            try:
                files[kind] = work()
            except OSError as error:
                failed(f"Could not write the {kind}: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
            except KeyboardInterrupt:
                left = list(jobs)[list(jobs).index(kind) :]
                failed(f"Interrupted: left out {', '.join(f'the {name}' for name in left)}.")
                break
            except Exception as error:
                failed(f"Could not write the {kind}: {type(error).__name__}: {error}")
        return files

    def _jobs(self, fit: Fit) -> Iterator[tuple[str, Callable[[], Any]]]:
        if self.fit is not None:
            path = self.fit
            yield "fit", lambda: _done(fit.save(path), path)
        if self.arviz is not None:
            netcdf = self.arviz
            yield "arviz", lambda: _netcdf(fit, self.draws, netcdf)
        if self.plots is not None or self.report is not None:
            needed("matplotlib").use("Agg")  # files only: no window, and no display needed
        if self.plots is not None:
            folder = self.plots
            yield "plots", lambda: _plots(fit, folder)
        if self.report is not None:
            page = self.report
            yield "report", lambda: _done(fit.report(page), page)


def _done(_: Any, path: Path) -> str:
    return str(path)


def _same(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, by whatever links; neither need be there yet."""
    if first.exists() and second.exists():
        return first.samefile(second)
    return os.path.normcase(os.path.realpath(first)) == os.path.normcase(os.path.realpath(second))


def _netcdf(fit: Fit, draws: int, path: Path) -> str:
    from jensen._base.replacing import replacing

    tree = fit.to_arviz(draws)
    with replacing(path) as place:
        tree.to_netcdf(place, engine="h5netcdf")
    return str(path)


def _plots(fit: Fit, folder: Path) -> list[str]:
    from jensen._report import plots

    return [str(path) for path in plots.save(fit, folder)]
