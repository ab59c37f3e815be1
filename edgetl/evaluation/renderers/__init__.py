"""Renders reports for people: one HTML page, or a terminal."""
