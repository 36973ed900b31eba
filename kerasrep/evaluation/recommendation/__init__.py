"""Recommendation from embeddings: matrix factorisation of plays, a map to its factors, ranking scores."""
