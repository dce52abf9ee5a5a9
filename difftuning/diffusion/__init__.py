"""The maths: forward process, losses, weights over the timesteps, closed-form denoisers."""
