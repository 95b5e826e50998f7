"""Fit, keep, calibrate, test, cross-validate."""
