"""Training: the loop, distribution, the optimizer, checkpoints and what is written down on the way."""
