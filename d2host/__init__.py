"""The seam between the project and Detectron2: every host symbol the project uses, from whichever host is there.

* configuration: :class:`CfgNode`, :func:`get_cfg`, :func:`configurable`
* models: registries, ``build_*``, :class:`ShapeSpec`
* data: :data:`DatasetCatalog`, :data:`MetadataCatalog`
* training: :class:`TrainerBase`, :class:`HookBase`, ``hooks``, :class:`EventStorage` and writers
* checkpoints, evaluation, communication, command line

``D2HOST`` (auto, detectron2, embedded) forces the choice; :data:`HOST` says what it was.
"""

from d2host.resolve import HOST

if HOST.name == "detectron2":
    from d2host.real import *  # noqa: F403
    from d2host.real import __all__ as _symbols
else:
    from d2host.embedded import *  # noqa: F403
    from d2host.embedded import __all__ as _symbols

__all__ = ["HOST", *_symbols]
