"""Checks and measures everything on a GPU: `python -m benchmarks.gpu`, or `make gpu`."""
