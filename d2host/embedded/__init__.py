"""The embedded host: what the project needs of Detectron2, as glue over fvcore and iopath, imported when it is used."""

import lazy_loader

from d2host.symbols import EMBEDDED, SUBMODULES

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, SUBMODULES, EMBEDDED)
