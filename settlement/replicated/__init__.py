"""The simulated ledger on several validators that agree on each block: an application under CometBFT (ABCI 2.0)."""
