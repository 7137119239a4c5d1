"""What every shipped recipe costs in quality on the example, next to what its rivals cost; see `__main__`."""
