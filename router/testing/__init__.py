"""For tests of what is built on the router: channels and a chain that is a table, networks that never were."""
