"""Frozen teachers: CLIP on crops (:mod:`clip`), vision foundation models (:mod:`foundation`)."""
