"""The equations of coordinate ascent, derived from a model's own log joint: printed as text or LaTeX, and evaluated."""
