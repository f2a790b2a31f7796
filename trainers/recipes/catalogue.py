"""Every recipe."""

from __future__ import annotations

from trainers.recipes import digits, p1
from trainers.recipes.records import Recipe

RECIPES: tuple[Recipe, ...] = (*p1.FIGURES, *digits.DIGITS)
