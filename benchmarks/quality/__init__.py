"""What every shipped recipe costs in quality on the example, beside what its rivals cost; see `__main__`."""
