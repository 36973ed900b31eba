"""Training under `MirroredStrategy`: schedule, step, loop, checkpoints and logs."""
