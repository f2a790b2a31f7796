"""Matrix completion by linear networks, as in P2."""
