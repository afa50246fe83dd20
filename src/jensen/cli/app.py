"""The command line as a typer application."""

from jensen._cli.app import app

__all__ = ["app"]
