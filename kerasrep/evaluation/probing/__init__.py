"""Probes: scikit-learn models on frozen embeddings, their folds and scores."""
