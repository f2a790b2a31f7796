"""MovieLens-100K: P2's Table 2, by the user's own copy of the ratings."""
