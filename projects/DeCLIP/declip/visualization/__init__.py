"""Pictures that explain: one function each, which returns a figure of matplotlib.

* :func:`attention`: where tokens attend, block by block
* :func:`proxy_tokens`: how much of all attention a few patches get

Each is made of two: one that gives the arrays (:func:`attention_maps`, ...), for a page or a program of one's own, and
one that draws them (:func:`draw_attention`, ...).
"""

from declip.visualization.attention import AttentionMaps, attention, attention_maps, draw_attention
from declip.visualization.proxy_tokens import ProxyShares, draw_proxy_tokens, proxy_shares, proxy_tokens

__all__ = [
    "AttentionMaps",
    "ProxyShares",
    "attention",
    "attention_maps",
    "draw_attention",
    "draw_proxy_tokens",
    "proxy_shares",
    "proxy_tokens",
]
