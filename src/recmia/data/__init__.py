"""Data: interactions, the tables that hold them, and where they come from."""
