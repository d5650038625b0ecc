"""Simulations for tests and campaigns: worlds under a seed, what must hold in them, and those who cheat."""
