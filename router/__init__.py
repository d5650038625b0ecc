"""Payments through others who need not be trusted (docs/forwarding.md, docs/routing.md). The parts, the lowest first:

words         objects (nodes, policies, edges, routes), codes (why a hop refuses), errors
onion         packets on the way out, failures on the way back, replays
invoices      what a payee asks for, as one line of text
gossip        what nodes tell each other of channels: announcements, the store of what is believed, who is told what
pathfinding   the graph, what was learned of balances, searches for one path and for many parts, the route cache
forwarding    what becomes of locks that come in; circuits, admission, jamming, exposure
receiving     payments that end here: their parts, and the invoices that this node issued
sending       payments that start here: a payment's steps, failure attribution, the asset's graph
network       all of it, put to a node
"""
