"""The node's control API: HTTP on loopback, for the `tally` command and for programs. See `operations`."""
