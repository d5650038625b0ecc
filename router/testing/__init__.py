"""For tests of what is built on the router: networks that never were, and nodes that gossip in virtual time."""
