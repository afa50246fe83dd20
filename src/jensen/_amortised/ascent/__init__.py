"""Parts of amortised inference: stochastic ascent in rows, evaluation row by row, refinement of single rows."""
