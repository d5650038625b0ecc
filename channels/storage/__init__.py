"""What must survive a crash: the store, its one writer, and the data directory around it."""
