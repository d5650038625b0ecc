"""The rules on chain, as pure functions: the adjudicator, the registry, and who gets what."""
