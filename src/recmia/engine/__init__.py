"""The numerical core: factorisation, ranking, matrix helpers, and calls that run in parallel."""
