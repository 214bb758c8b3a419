"""The seam between the project and Detectron2: every host symbol the project uses, from whichever host is there.

* configuration: :class:`CfgNode`, :func:`get_cfg`, :func:`configurable`
* models: registries, ``build_*``, :class:`ShapeSpec`
* data: :data:`DatasetCatalog`, :data:`MetadataCatalog`
* objects of an image: :class:`Instances`, :class:`Boxes`, :class:`BitMasks`, :class:`BoxMode`
* training: :class:`TrainerBase`, :class:`HookBase`, ``hooks``, :class:`EventStorage` and writers
* checkpoints, evaluation, communication, set-up

``D2HOST`` (auto, detectron2, embedded) forces the choice; :data:`HOST` says what it was. The host is resolved and
imported when a symbol is first used: importing this package alone costs nothing and changes nothing.

>>> import d2host
>>> d2host.HOST.name in ("detectron2", "embedded")
True
"""

from importlib import import_module
from typing import Any

from d2host.symbols import SYMBOLS

__all__ = ["HOST", *SYMBOLS]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    host = import_module("d2host.resolve").resolve_host()
    room = "d2host.real" if host.name == "detectron2" else "d2host.embedded"
    value = host if name == "HOST" else getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
