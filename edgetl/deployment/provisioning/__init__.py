"""Prepares a device that has only Python: finds out what it is, and gives it an environment with edgetl."""
