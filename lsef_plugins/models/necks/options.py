"""The options a neck's config may give, so that an unknown one is told by name before anything is built."""
import difflib
import inspect
from typing import Any, List, Mapping

# Read by the registry, not by the class.
REGISTRY_KEYS = ('type', '_scope_', '_delete_')


def options_of(cls: type) -> List[str]:
    """The arguments a config may give to a class, those included that ``**options`` hands to ``cls.passes_on``."""
    names: List[str] = []
    for parameter in list(inspect.signature(cls).parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            passed_on = getattr(cls, 'passes_on', None)
            names += [] if passed_on is None else [name for name in options_of(passed_on) if name != 'channels']
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            names.append(parameter.name)
    return list(dict.fromkeys(names))


def check_options(cls: type, config: Mapping[str, Any]) -> None:
    """Refuses options that ``cls`` does not know.

    A class that swallows any keyword (``**kwargs`` without ``passes_on``) is left to judge them itself.

    Raises:
        ValueError: names the class, the unknown options with the known one most alike, and all known ones.
    """
    swallows = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())
    if swallows and getattr(cls, 'passes_on', None) is None:
        return
    known = options_of(cls)
    unknown = [name for name in config if name not in known and name not in REGISTRY_KEYS]
    if not unknown:
        return
    told = []
    for name in unknown:
        alike = difflib.get_close_matches(str(name), known, 1)
        told.append(f'{name!r}' + (f' (did you mean {alike[0]!r}?)' if alike else ''))
    given = config.get('type')
    called = given if isinstance(given, str) else cls.__name__
    raise ValueError(f'{called} does not know the option{"s" if len(told) > 1 else ""} {", ".join(told)}. It takes '
                     f'{", ".join(known)}.')
