"""A running job followed as it goes: what is there, what is new, and what a person sees of it."""
