"""Diffusion transfer learning by Diff-Tuning (Zhong et al., NeurIPS 2024), to learn, reproduce and use.

Images are (N, 3, H, W) float32 in [-1, 1]; timesteps are 0-based, 0 = least noise; labels
are int64 rows of a model's label table.
"""
