"""The CPU engine: a graph becomes one native program, generated for this very processor."""
