"""Figures of the papers, drawn from run directories. One file a kind of drawing.

Nothing here is imported by training; matplotlib is imported when something is drawn.
"""
