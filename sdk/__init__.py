"""What users touch: `open_node`, the `tally` command, the node's HTTP API, the benchmark."""
