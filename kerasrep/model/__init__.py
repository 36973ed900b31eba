"""The network: front end, blocks, trunk, heads and strategies."""
