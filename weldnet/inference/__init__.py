"""A model after training: checkpoints and exports, predictions, evaluation."""
