"""Help that knows nothing about diffusion: files, seeded draws, progress bars, processes, settings, where the tiny world lies."""
