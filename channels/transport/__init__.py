"""Bytes between nodes: Noise over TCP, what may wait to be sent, and what strangers may take."""
