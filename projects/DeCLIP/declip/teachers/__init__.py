"""Frozen teachers: CLIP on crops (:mod:`clip`), vision foundation models (:mod:`foundation`), and these completed by
diffusion models (:mod:`completed`, :mod:`diffusion`)."""
