"""The release gate: a model, what it was or must be, rules, and a verdict."""
