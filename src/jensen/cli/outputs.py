"""The files that a fit leaves behind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from jensen.result import Fit


@dataclass(frozen=True)
class Outputs:
    """Where to write what; None where nothing was asked for. `draws` is how many go to `arviz`."""

    fit: Path | None = None
    report: Path | None = None
    plots: Path | None = None
    arviz: Path | None = None
    draws: int = 1000

    def check(self) -> None:
        """Refuse, before anything is computed, what could not be written afterwards."""
        for flag, path in (("--out", self.fit), ("--report", self.report), ("--arviz", self.arviz)):
            if path is None:
                continue
            if path.is_dir():
                raise typer.BadParameter(f"{flag} {path} is a folder; name a file.")
            if not path.parent.is_dir():
                raise typer.BadParameter(f"{flag} {path}: there is no folder {path.parent}.")
        if self.plots is not None and self.plots.exists() and not self.plots.is_dir():
            raise typer.BadParameter(f"--plots {self.plots} is not a folder.")

    def write(self, fit: Fit, failed: Callable[[str], None]) -> dict[str, Any]:
        """Write everything, the saved fit first; a file that cannot be written is reported and the others still are."""
        files: dict[str, Any] = {}
        for kind, work in self._jobs(fit):
            try:
                files[kind] = work()
            except OSError as error:
                failed(f"Could not write the {kind}: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return files

    def _jobs(self, fit: Fit) -> Iterator[tuple[str, Callable[[], Any]]]:
        if self.fit is not None:
            path = self.fit
            yield "fit", lambda: _done(fit.save(path), path)
        if self.arviz is not None:
            netcdf = self.arviz
            yield "arviz", lambda: _done(fit.to_arviz(self.draws).to_netcdf(netcdf, engine="h5netcdf"), netcdf)
        if self.plots is not None or self.report is not None:
            import matplotlib

            matplotlib.use("Agg")  # files only: no window, and no display needed
        if self.plots is not None:
            folder = self.plots
            yield "plots", lambda: _plots(fit, folder)
        if self.report is not None:
            page = self.report
            yield "report", lambda: _done(fit.report(page), page)


def _done(_: Any, path: Path) -> str:
    return str(path)


def _plots(fit: Fit, folder: Path) -> list[str]:
    from jensen.report import plots

    return [str(path) for path in plots.save(fit, folder)]
