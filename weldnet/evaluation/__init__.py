"""How good a classifier's predictions are: pure functions on arrays."""
