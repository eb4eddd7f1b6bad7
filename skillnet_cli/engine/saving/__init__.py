"""What a training saves and how it is read again: checkpoints, the best models, models made of either."""
