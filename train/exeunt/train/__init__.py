"""Recipes that make exits good, and the demo models."""
