"""What a new user does: the demo, and a study of a folder of their own."""
