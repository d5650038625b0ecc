"""Whole nodes in virtual time: worlds with faults, what must hold in them, and those who cheat."""
