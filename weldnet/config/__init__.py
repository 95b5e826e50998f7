"""Builds objects from configuration; only this package does. Importing it does not import torch."""
