"""Gossip: what nodes tell each other of nodes and channels, and what is believed of it."""
