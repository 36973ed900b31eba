"""What a recipe may say, and how it is read, changed and refused."""
