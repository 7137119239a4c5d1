"""What numbers a layer's tensors are in, how they lie in a checkpoint, and how while the layer runs."""
