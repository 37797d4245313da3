"""Training: rollout, update, evaluation, checkpoints and the run folder, put together."""
