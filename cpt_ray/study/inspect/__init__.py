"""Looking into a finished study: rows as text, a row's documents and back, and every hash again."""
