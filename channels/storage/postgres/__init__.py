"""PostgreSQL as the engine of a store. Nothing else imports `psycopg`: an extra, `pip install tallystick[postgres]`."""
