"""A rollup's programs: its operator, its watcher, what its users do; on the simulated ledger and on an EVM."""
