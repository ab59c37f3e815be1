"""Reads and writes TFLite files.

- `graph` reads a file that may be damaged or malicious; for all code that only looks at it.
- `schema` unpacks a file into mutable objects and packs them again; for code that changes it.
- `flatbuffer` is the safe low-level reader under both, for other flatbuffers as well.
- `read_budget` keeps `schema` from copying a malicious file for hours.

The other modules build on these: operators, description, metadata, weight counts, the pixel input, the last layer
appended to a backbone, and `artifact`, the compiled backbone as a value.
"""
