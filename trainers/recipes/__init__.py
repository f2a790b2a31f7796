"""P1's figures as data: which runs, and how they are shown."""
