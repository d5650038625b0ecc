"""The simulated ledger on several validators that agree block by block: an application under CometBFT, over ABCI 2.0."""
