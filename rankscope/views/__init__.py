"""Views: rows to text or files."""
