"""`Pretrained` and everything that it can hold."""
