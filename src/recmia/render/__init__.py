"""Figures and pages about results."""
