"""Environments of the papers, and what others need to be learned on."""
