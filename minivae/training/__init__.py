"""training: the loop, its options, batches, checkpoints, history and progress."""
