"""Payments through others: graph, gossip, onions, forwarding and invoices will live here.

Today every payment goes over one channel, so this package has no module yet.
"""
