"""Lesson 00, the quickstart: what fine-tuning forgets."""
