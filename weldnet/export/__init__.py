"""From a checkpoint to a folder that runs without torch, kept only if it passes the parity gate."""
