"""Files and folders: what a user names, read strictly, written in one step, one process at a time."""
