"""Recipes: YAML files that ``--config-file`` finds by bare name."""
