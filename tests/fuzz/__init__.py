"""Seeded mutations of every kind of file that is read: each is read correctly or refused in one line."""
