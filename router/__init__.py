"""Payments through others who need not be trusted (PROTOCOL section 8, ROUTING.md).

objects, policies   nodes, channels as others see them, what a forwarder asks for
onion, failures     Sphinx packets on the way out, obfuscated errors on the way back (BOLT 4)
invoice             what a payee asks for, signed and bech32-encoded
gossip, graph       who announces what, and what that looks like to a path search
search, flow        one path, many parts; `planner` puts them together with what was learned
forwarder           an incoming and an outgoing lock tied in one durable record
payer, payee        payments in parts, tried until they are paid, impossible or over budget
service             all of it, attached to a node
"""
