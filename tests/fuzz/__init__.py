"""Seeded mutations of files that are read: none hangs, ends in a traceback, or passes a hash that it should not."""
