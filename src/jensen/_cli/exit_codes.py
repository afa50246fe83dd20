"""What the command's exit status says; documented in docs/command-line.md."""

OK = 0
"""Done; the verdict, where there is one, is trusted or usable."""
FAILED = 1
"""No result, or a file could not be written: the message says what, where and what to do."""
USAGE = 2
"""The command line itself is wrong."""
UNTRUSTED = 3
"""There is a result, everything asked for was written, and the verdict is untrusted."""
INTERRUPTED = 130
"""Interrupted before everything that was asked for was there; a fit that was found is kept."""


def of(verdict: str) -> int:
    """The status for a verdict."""
    return UNTRUSTED if verdict == "untrusted" else OK


def with_problems(verdict: str, problems: list[str]) -> int:
    """The status for a verdict, where these things could not be done."""
    if any(problem.startswith("Interrupted") for problem in problems):
        return INTERRUPTED
    return FAILED if problems else of(verdict)
