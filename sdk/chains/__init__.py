"""Payments that cross from one chain, contract or asset to another: rates, margins, and the maker that does it."""
