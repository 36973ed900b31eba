"""Files: written whole or not at all, checked when read, and the names that stages agree on."""
