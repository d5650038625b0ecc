"""What happened to one channel, written down without secrets, and lived through again offline."""
