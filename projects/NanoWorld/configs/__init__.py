"""Recipes of the nano world: one YAML file each, found by bare name."""
