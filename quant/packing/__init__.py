"""Pure functions between weights and the bytes in a file."""
