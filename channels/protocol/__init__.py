"""What two parties agree on, and what is allowed: objects, messages, signatures, the core of a channel. Pure."""
