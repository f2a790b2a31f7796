"""Two checkpoints side by side: what changed in each matrix, and what the change itself is."""
