"""The default method: what it finds in a model, and what it tries in turn."""
