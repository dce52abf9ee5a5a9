"""Scores, the space they are taken in, and the chain of forgetting measured."""
