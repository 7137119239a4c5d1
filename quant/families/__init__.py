"""What is known of each model family: its blocks, what it keeps, which layers read one input."""
