"""Placeholder docstring until the room is built."""
