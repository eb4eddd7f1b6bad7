"""Data sets of Chinese text."""
