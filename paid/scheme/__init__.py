"""The "Payment" HTTP authentication scheme, whatever the payment method: texts in, values out, and back. Pure."""
