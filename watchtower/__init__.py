"""Watchtowers: sealed appointments, the engine that watches and challenges, the daemon, the client that uploads."""
