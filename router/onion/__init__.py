"""Onions: what each hop of a payment reads, and nobody else."""
