"""What can be added is one object in one file: a toy of each kind, defined in its test, goes through the program."""
