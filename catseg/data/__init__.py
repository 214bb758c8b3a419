"""Data: datasets by name, class lists, reading, augmentation and loaders.

* :func:`register_all`: every dataset of the project, registered when this package is imported
* :func:`build_train_loader`, :func:`build_test_loader`
* :func:`load_class_list`, :func:`class_names`
"""

from catseg.data.class_lists import first_synonym, load_class_list
from catseg.data.datasets import class_names, register_all
from catseg.data.loader import build_test_loader, build_train_loader

register_all()

__all__ = ["build_test_loader", "build_train_loader", "class_names", "first_synonym", "load_class_list", "register_all"]
