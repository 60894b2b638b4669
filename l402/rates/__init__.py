"""Prices in a currency: what one bitcoin costs, and what that makes in msat."""
