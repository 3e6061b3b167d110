"""Rewrites of a graph; the list of them comes with the first pass."""
