"""The payment network as one node takes part in it: all parts of the router, put to its channels."""
