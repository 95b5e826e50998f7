"""Weld images: finding, splitting, decoding, batching. Knows nothing of networks."""
