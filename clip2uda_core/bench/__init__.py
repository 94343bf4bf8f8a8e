"""Measured speed and memory, as ratios to what this machine can do: `python -m clip2uda_core.bench`."""
