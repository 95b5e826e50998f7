"""What a classifier's answers are worth: pure functions on arrays."""
