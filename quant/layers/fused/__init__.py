"""A family's whole transformer block, run with fused calls: one file a family, and the parts that they are made of."""
