"""Reading and writing checkpoint folders: planned, streamed, hashed, renamed into place."""
