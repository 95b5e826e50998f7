"""Bytes to pixels: every format, and the damage it may have suffered."""
