"""Drawn welds with known defects: a data set that needs no download."""
