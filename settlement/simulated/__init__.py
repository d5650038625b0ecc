"""The simulated chain: its ledger, its blocks, and the JSON-RPC node around them."""
