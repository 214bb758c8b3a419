"""Recipes of DeCLIP and CAT-Seg: one YAML file each, found by bare name."""
