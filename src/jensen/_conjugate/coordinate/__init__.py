"""Parts of the coordinate methods: compiled sweeps, starting points."""
