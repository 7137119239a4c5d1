"""Checkpoints in the layouts of other programs: one destination a file, listed in one table."""
