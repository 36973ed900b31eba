"""What is near what in a table of embeddings: to read, to hear, and as a page with a map."""
