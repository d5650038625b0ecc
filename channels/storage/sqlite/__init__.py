"""SQLite as the engine of a store. Nothing else imports `sqlite3`; each subject's scripts stand beside the subject."""
