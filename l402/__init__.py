"""Sell an API to machines: L402 for Flask."""
