"""Which images there are, with their labels and groups."""
