"""Payments through others who need not be trusted (PROTOCOL section 8, ROUTING.md). The files, by what they are about:

words      objects (nodes, policies, edges, routes), errors
onions     tlv, payload, sphinx (packets on the way out), codes, failures (errors on the way back), replay
invoices   bech32, invoice (one line of text), qr, invoices (those that this node issued, on disk), hints (route hints)
gossip     announcements, book (what is believed), gossip (who tells whom what), gossiper (its shell), and their parts:
           gossip_policy, gossip_schema, gossip_wire, hearsay, parking, rates, reconciliation, room, voice; imports
routes     graph, liquidity (what was learned; liquidity_schema), search (one path), flow (many parts), kernels, steps,
           planner, ways (found before)
forwarding service (the router of a node, which all locks go through), seams (what it and those around it say), entrance
           (what becomes of a lock that comes in), forwarder (pure), circuits (on disk); admission, jamming, exposure
paying     payer (pure), lessons (what failures teach), payments (on disk), atlas (the map), outgoing (the shell)
paid       payee (pure), receiving (the shell)
"""
