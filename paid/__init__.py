"""Paid HTTP calls: the "Payment" authentication scheme, and the payment method `tallystick` in it (docs/paid.md)."""
