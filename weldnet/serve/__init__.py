"""A served model: verdicts over HTTP, one page, a record of each decision."""
