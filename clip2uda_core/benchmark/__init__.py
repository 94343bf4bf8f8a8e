"""Benchmarks: all methods on one scenario and one budget, several seeds each, as a table and a figure."""
