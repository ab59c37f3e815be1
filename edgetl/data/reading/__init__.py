"""Reads photos in threads, embeds them, and caches what was read."""
