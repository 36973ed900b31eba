"""Search for good settings of a recipe: keras-tuner chooses them, the package's own training tries them."""
