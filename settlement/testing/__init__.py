"""A kit to test against a ledger: a chain in virtual time (`local`), one channel before the rules (`disputes`)."""
