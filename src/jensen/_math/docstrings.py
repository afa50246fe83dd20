"""ArviZ where docstrings are left out."""

import sys


def spare_docstrings() -> None:
    """Under `python -OO`, keep ArviZ from adding to the docstrings of its functions, which are not there."""
    if sys.flags.optimize > 1:
        from arviz_stats.base import stats_utils

        stats_utils.update_docstring = lambda *ufunc, **options: None
