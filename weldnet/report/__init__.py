"""The report on a tested checkpoint: one page to read, print and hand on."""
