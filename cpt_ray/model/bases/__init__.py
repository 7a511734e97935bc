"""What a base is known to be before anything is prepared: its files, kind, tensors, window and tokens, read without torch."""
