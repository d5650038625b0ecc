"""Shards: ledgers that execute apart, and the numbered receipts by which coins go from one to another."""
