"""Fault: a YAML file that MMEngine reads can call any function (``!!python/object/apply:os.system``).

MMEngine (up to 0.10.7) reads YAML with PyYAML's unrestricted loader: configs, metafiles, annotation files.

Mend: PyYAML's safe loader in its place, which also knows the tuples that MMEngine itself writes. Whoever passes
``Loader=`` gets that.

Delete when: mmengine reads YAML with a safe loader.
"""


def reason() -> str:
    import yaml
    from mmengine.fileio.handlers import yaml_handler
    safe = issubclass(yaml_handler.Loader, yaml.SafeLoader) and not hasattr(yaml_handler.Loader, 'of_lsef_plugins')
    return '' if safe else 'MMEngine reads YAML with a loader that can call any function'


def apply() -> None:
    import yaml
    from mmengine.fileio.handlers import yaml_handler
    if not issubclass(yaml_handler.Loader, yaml.SafeLoader):
        yaml_handler.Loader = safe_loader()


def safe_loader() -> type:
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe, and reads the tuples of dumped configs."""
        of_lsef_plugins = True

    Loader.add_constructor('tag:yaml.org,2002:python/tuple',
                           lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))
    return Loader
