"""Reads and writes TFLite files: schema, operators, metadata, and the last layer appended to a backbone."""
