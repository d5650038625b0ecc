"""A test kit for gossip: keys, channels and a chain that is a table."""

"""For tests of what is built on the router: networks that never were, balances that nobody knows."""
