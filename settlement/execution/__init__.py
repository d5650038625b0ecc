"""Doing ahead, on all cores, what the transactions of a block ask whatever the state is."""
