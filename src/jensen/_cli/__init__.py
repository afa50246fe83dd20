"""The command line: `jensen fit`, `jensen explain`, `jensen check`, `jensen demo`."""


def main() -> None:
    """Entry point of the `jensen` command."""
    from jensen._cli.app import app

    app(prog_name="jensen")


__all__ = ["main"]
