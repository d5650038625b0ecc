"""All channels of one node: the engine, and the connections to its peers."""
