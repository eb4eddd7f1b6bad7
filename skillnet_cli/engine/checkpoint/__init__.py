"""The training's state on disk: checkpoints, the best models, models made of either."""
