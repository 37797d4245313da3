"""Measurements of what the project promises: `jaxloco bench` runs them, `docs/benchmarks.md` shows them."""
