"""From a graph of the network to routes: searches, flows, and what payments have taught."""
