"""Faults that real photos, machines, shells and cameras showed, one file for each kind."""
