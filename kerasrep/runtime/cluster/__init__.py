"""Work on the nodes of a Ray cluster (extra `scale`): nothing here is needed on one machine."""
