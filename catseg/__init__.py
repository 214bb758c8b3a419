"""CAT-Seg on decoupled CLIP encoders: open-vocabulary semantic segmentation by cost aggregation.

* :mod:`catseg.config`: every configuration key
* :mod:`declip.data`: datasets, class lists, augmentation, loaders
* :mod:`catseg.modeling`: aggregation, head, meta-architecture, inference
* :mod:`catseg.trainer`: training
* :mod:`declip.evaluation`: metrics, tables, pictures
"""
