"""Prepared sets: their files, and how training reads them."""
