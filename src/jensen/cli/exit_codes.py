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
"""Interrupted before there was anything to keep."""


def of(verdict: str) -> int:
    """The status for a verdict."""
    return UNTRUSTED if verdict == "untrusted" else OK
