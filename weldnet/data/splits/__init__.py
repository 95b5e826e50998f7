"""Who trains, validates and tests: whole groups, and the guard against leaks."""
