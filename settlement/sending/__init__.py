"""Sending transactions: obligations that end only once they are final, their nonces and their fees."""
