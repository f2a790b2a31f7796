"""Solvers: from a matrix to its singular values."""
