"""Rule modules of the simulated ledger, pure: exchange, and what stands beside it. `table` names them all."""
