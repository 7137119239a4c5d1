"""A run on disk: files that are whole or absent, records that survive a kill, and hashes of what was read."""
