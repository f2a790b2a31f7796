"""The proof of the bound checked on saved weights: of a pair of snapshots, of a run."""
