"""The device as a whole: its slots, installs and rollbacks, health, service, settings and inventory."""
