"""Pictures that explain: one function each, which returns a figure of matplotlib.

* :func:`attention`: where tokens attend, block by block
* :func:`proxy_tokens`: how much of all attention a few patches get, block by block
* :func:`correlation`: how alike features are to those at some places
* :func:`segmentation`: what several methods say about the same images
* :func:`dataset`: images and labels of a dataset
* :func:`training`: curves of trainings
* :func:`resolution`: accuracy over the size of the input

What they draw can be had without a figure, for a page or a program of one's own: :func:`attention_maps`,
:func:`proxy_shares`, :func:`correlation_maps`, :func:`segmentation_panels`, :func:`read_curves`, :func:`read_results`.
"""

from declip.visualization.attention import AttentionMaps, attention, attention_maps, draw_attention
from declip.visualization.correlation import CorrelationMaps, correlation, correlation_maps, draw_correlation
from declip.visualization.dataset import dataset
from declip.visualization.proxy_tokens import ProxyShares, draw_proxy_tokens, proxy_shares, proxy_tokens, shares_table
from declip.visualization.resolution import read_results, resolution
from declip.visualization.segmentation import segmentation, segmentation_of_dataset, segmentation_panels
from declip.visualization.training import Curve, draw_training, read_curves, training

__all__ = [
    "AttentionMaps",
    "CorrelationMaps",
    "Curve",
    "ProxyShares",
    "attention",
    "attention_maps",
    "correlation",
    "correlation_maps",
    "dataset",
    "draw_attention",
    "draw_correlation",
    "draw_proxy_tokens",
    "draw_training",
    "proxy_shares",
    "proxy_tokens",
    "read_curves",
    "read_results",
    "resolution",
    "segmentation",
    "segmentation_of_dataset",
    "segmentation_panels",
    "shares_table",
    "training",
]
