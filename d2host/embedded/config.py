"""Configuration nodes, their defaults, and constructors that accept them."""

import functools
import inspect

from fvcore.common.config import CfgNode as FvcoreCfgNode

from d2host.embedded.defaults import DEFAULTS


class CfgNode(FvcoreCfgNode):
    """fvcore's node (``_BASE_`` files, frozen trees) that also reads a file given by name."""

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        """Merge a YAML file, following its ``_BASE_``; unknown keys and wrong types raise."""
        loaded = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        self.merge_from_other_cfg(loaded)

    def dump(self, *args, **kwargs) -> str:
        """The tree as YAML."""
        return super().dump(*args, **kwargs)


def get_cfg() -> CfgNode:
    """A fresh copy of the defaults (see :mod:`d2host.embedded.defaults`)."""
    return CfgNode(DEFAULTS).clone()


def configurable(init_func=None, *, from_config=None):
    """Let a constructor (or function) be called with a config instead of explicit arguments.

    As ``@configurable`` on ``__init__`` the class's ``from_config(cfg, ...)`` turns a config into keyword arguments;
    as ``@configurable(from_config=function)`` the given function does. Arguments that ``from_config`` does not take
    override what it returns.
    """
    if init_func is not None:
        return _configurable_init(init_func)

    def decorate(function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            if _called_with_config(args, kwargs):
                return function(**_explicit_arguments(from_config, *args, **kwargs))
            return function(*args, **kwargs)

        wrapped.from_config = from_config
        return wrapped

    return decorate


def _configurable_init(init):
    if init.__name__ != "__init__":
        raise TypeError("@configurable without arguments decorates __init__ methods only")

    @functools.wraps(init)
    def wrapped(self, *args, **kwargs):
        from_config = getattr(type(self), "from_config", None)
        if not inspect.ismethod(from_config):
            raise TypeError(f"{type(self).__name__} needs a 'from_config' classmethod to be configurable")
        if _called_with_config(args, kwargs):
            kwargs, args = _explicit_arguments(from_config, *args, **kwargs), ()
        init(self, *args, **kwargs)

    return wrapped


def _called_with_config(args, kwargs) -> bool:
    return (bool(args) and isinstance(args[0], FvcoreCfgNode)) or isinstance(kwargs.get("cfg"), FvcoreCfgNode)


def _explicit_arguments(from_config, *args, **kwargs) -> dict:
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"{getattr(from_config, '__qualname__', from_config)} must take 'cfg' as its first argument")
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return from_config(*args, **kwargs)
    accepted = {key: value for key, value in kwargs.items() if key in parameters}
    overrides = {key: value for key, value in kwargs.items() if key not in parameters}
    return {**from_config(*args, **accepted), **overrides}
