"""What the machine is, where a user's files are kept, and what native libraries print."""
