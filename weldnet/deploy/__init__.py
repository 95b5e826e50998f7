"""From a checkpoint to the line: exports with a parity gate, and a served model with one page."""
