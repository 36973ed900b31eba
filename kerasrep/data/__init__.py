"""Decoding, shards, and batches of crops."""
