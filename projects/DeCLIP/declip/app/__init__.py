"""A page in the browser: drop a photo, name things, see where they are.

* :class:`Desk`: segmenters by title, the images they looked at last, and how much of each is taken
* :func:`build_page`, :func:`serve`: the page on it, of gradio (extra ``[demo]``)

Every question of the page goes through :class:`declip.segmenter.Segmenter`; nothing here knows a model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"desk": ["Desk", "Limits"], "page": ["build_page"], "serving": ["serve"]}
)
