"""Buying calls: what may be spent, which offer is taken, what was bought, and the flow for httpx."""
