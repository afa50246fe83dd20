"""A model explained: its plan, its equations, its joint density as LaTeX."""
