"""Whoever is asleep is defended here: sealed appointments, the watching engine, the daemon, the uploading client."""
