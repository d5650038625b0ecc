"""The ledger that judges: the chain interface, the adjudicator's rules, the simulated chain and its JSON-RPC node."""
