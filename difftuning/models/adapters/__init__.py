"""Parameter-efficient tuning: what of a denoiser is trained, what is added to it, how that is kept."""
