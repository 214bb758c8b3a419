"""CAT-Seg on decoupled CLIP encoders: open-vocabulary semantic segmentation by cost aggregation.

* :mod:`catseg.config`: every configuration key
* :mod:`catseg.data`: datasets, class lists, augmentation, loaders
* :mod:`catseg.modeling`: aggregation, head, meta-architecture, inference
* :mod:`catseg.engine`: training
* :mod:`catseg.evaluation`: metrics, tables, pictures
"""
