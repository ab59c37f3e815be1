"""Reads and embeds photos in threads, and caches what was read."""
