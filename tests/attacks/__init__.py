"""Hostile files, each with one line that says what it attacks; all of them are refused in words."""
