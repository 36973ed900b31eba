"""A catalogue of any size becomes one table of vectors, and goes on where it was stopped."""
