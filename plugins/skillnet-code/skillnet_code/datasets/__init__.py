"""Data sets of code and its descriptions."""
