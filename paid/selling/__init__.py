"""Selling calls: what they cost, what was sold, and the ASGI middleware that stands before an application."""
