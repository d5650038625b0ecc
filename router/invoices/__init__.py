"""Invoices as text and picture."""
