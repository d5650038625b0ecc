"""A node as a daemon: its configuration, its key on disk, its life."""
