"""A real chain: the client of Ethereum nodes, over plain JSON-RPC, behind the same interface as the simulated one."""
