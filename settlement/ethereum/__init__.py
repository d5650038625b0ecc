"""Ethereum's formats and JSON-RPC: calls, events, transactions, and a chain node as a client sees it."""
