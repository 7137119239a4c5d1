"""Speed, measured; README.md says how."""
