"""Weld images: sources, decoding, splits, batches. Knows nothing of networks."""
