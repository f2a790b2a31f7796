"""What makes the docs site; no part of it, and no part of the package."""
