"""Measuring speed: lushan beside other runtimes, call by call in one run, on the same network."""
