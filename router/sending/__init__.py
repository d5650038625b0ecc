"""Paying: orders, attempts, and what each failure teaches."""
