"""Locks that go on: a forwarder's rules, its limits, and its records on disk."""
