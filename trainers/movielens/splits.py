"""How the ratings are divided into training and test ratings, by name."""

from __future__ import annotations

# What share of u.data is drawn at random for testing: P2, Table 2, (a) and (b).
RANDOM = {"90/10": 0.1, "80/20": 0.2}
# Divisions that come as files, NAME.base and NAME.test: ua and ub hold ten test ratings of every
# user, u1 to u5 are five folds of all ratings.
FIXED = ("ua", "ub", "u1", "u2", "u3", "u4", "u5")
NAMES = (*RANDOM, *FIXED)
