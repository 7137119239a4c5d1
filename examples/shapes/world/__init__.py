"""A toy world of moving shapes whose videos can be judged without any network."""
