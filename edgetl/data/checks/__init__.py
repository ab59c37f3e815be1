"""Finds doubtful photos, classes and splits: near duplicates, wrong labels, leakage."""
