"""Streams, one loop, checkpoints, the memory bank, `fine_tune`, pre-training."""
