"""Two parties: the pure core of a channel, signing, wire format, transport, durable store, and the engine on top."""
