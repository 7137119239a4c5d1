"""What a model's files may be, and each as names, classes, shapes and tensors: one kind a file, listed in one table."""
