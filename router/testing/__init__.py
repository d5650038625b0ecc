"""A test kit for gossip: keys, channels and a chain that is a table."""
