"""What every matmul kernel takes, counted from its machine code."""
