"""What grows with the text, and how: CPU seconds, memory, opens, and the driver's share of a million files."""
