"""The training of a detector: state, step, optimizer, checkpoints, log and loop."""
