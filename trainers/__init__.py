"""Lightweight training drivers that write run directories for RankScope."""
