"""Fault: ``_base_ = ['lsef_plugins::...']`` stops with *mmengine does not support to load lsef_plugins config*.

MMEngine (up to 0.10.7) reads configs of installed packages from a fixed list of names only. And what such a base holds
is marked for registries of that package's own name, while our components are in MMAction2's.

Mend: our name is added to the list, and a base of ours is read as if it lay beside the config that names it.

Delete when: mmengine reads configs of any installed package, and lets it say which registries it uses.
"""
import functools

PACKAGE = 'lsef_plugins'


def reason() -> str:
    from mmengine.config import Config, utils
    if PACKAGE in utils.MODULE2PACKAGE and not getattr(Config._get_cfg_path, 'of_lsef_plugins', False):
        return ''
    return 'MMEngine knows packages with configs by a list, which does not name lsef_plugins'


def apply() -> None:
    from mmengine.config import Config, utils
    if not reason() or getattr(Config._get_cfg_path, 'of_lsef_plugins', False):
        return
    utils.MODULE2PACKAGE[PACKAGE] = PACKAGE
    Config._get_cfg_path = staticmethod(_without_our_scope(Config._get_cfg_path))


def _without_our_scope(stock):

    @functools.wraps(stock)
    def wrapper(cfg_path, filename):
        path, scope = stock(cfg_path, filename)
        return path, None if scope == PACKAGE else scope

    wrapper.of_lsef_plugins = True  # type: ignore[attr-defined]
    return wrapper
