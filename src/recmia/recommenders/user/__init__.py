"""Recommenders of the user's: an object in memory, a factory by name, or a command."""
