"""Prepared sets: how they are made from what publishers and users have, read back, and dealt out to training."""
