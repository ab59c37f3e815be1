"""Ways to a device: a folder of this machine, or SSH."""
