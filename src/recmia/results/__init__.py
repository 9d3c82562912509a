"""Results: what audits, sweeps and comparisons of defences found, as values; and how they are run and kept."""
