"""Findings about a set of images, before anyone trains on them."""
