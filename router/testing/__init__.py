"""For tests of what is built on the router: networks that never were, balances that nobody knows."""
