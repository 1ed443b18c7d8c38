"""Parameter vectors in, returns (and transitions) out. Knows environments, not algorithms."""
