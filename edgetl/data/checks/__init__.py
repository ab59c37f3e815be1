"""Finds photos, classes and splits that are doubtful: near duplicates, wrong labels, leaks."""
