"""What a classifier's answers are worth: pure functions on arrays, and the report made of them."""
