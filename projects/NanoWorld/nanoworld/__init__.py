"""The nano world: procedural scenes, a tokenizer and models small enough to see the method work on a laptop."""
