"""Lesson 10: a folder of one's own: when to stop, what it costs, what one gets."""
