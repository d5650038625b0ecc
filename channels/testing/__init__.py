"""A kit to test channels with: an in-memory network, virtual time, seeded randomness and scheduling."""
