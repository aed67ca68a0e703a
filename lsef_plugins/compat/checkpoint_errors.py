"""Fault: a truncated checkpoint ends in *PytorchStreamReader failed reading zip archive*, a refused one in a
page about ``weights_only``; neither names the file.

Mend: MMEngine's loader for local files, wrapped: :class:`CheckpointError` names the file, what is wrong
with it, and the next step. What loads, loads exactly as before; what is no dictionary is no checkpoint.

Delete when: torch or mmengine names the file and says that it is incomplete.
"""
import functools
import os
import pickle
import re
import zipfile

from .weights_only import RefusedError


class CheckpointError(RuntimeError):
    """A checkpoint file that cannot be used: incomplete, not a checkpoint, or refused as unsafe."""


def reason() -> str:
    from mmengine.runner import checkpoint
    loader = checkpoint.CheckpointLoader._schemes['']
    if loader is checkpoint.load_from_local or getattr(loader, 'of_lsef_plugins', False):
        return 'MMEngine does not name the checkpoint that cannot be read'
    return ''  # the user registered a loader of their own


def apply() -> None:
    from mmengine.runner import checkpoint
    stock = checkpoint.CheckpointLoader._schemes['']
    if getattr(stock, 'of_lsef_plugins', False) or not reason():
        return
    checkpoint.CheckpointLoader.register_scheme(prefixes='', loader=naming_the_file(stock), force=True)


def naming_the_file(load):

    @functools.wraps(load)  # MMEngine logs the loader's name
    def wrapper(filename, map_location):
        try:
            content = load(filename, map_location)
        except ImportError:
            raise
        except Exception as error:      # a damaged or hostile pickle may end in any (TypeError, MemoryError, KeyError)
            path = os.path.expanduser(filename)
            if not os.path.isfile(path):
                raise CheckpointError(
                    f'Checkpoint {filename} does not exist. Give the path of a .pth file; a work_dir names '
                    'its newest one in the text file last_checkpoint.') from error
            raise CheckpointError(_diagnosis(path, error)) from error
        if not isinstance(content, dict):
            raise CheckpointError(f'Checkpoint {filename} holds an object of class {type(content).__name__} and no '
                                  'dictionary of weights. Give a file that torch.save made of a state_dict or that '
                                  'a training has written.')
        return content

    wrapper.of_lsef_plugins = True  # type: ignore[attr-defined]
    return wrapper


def _diagnosis(path: str, error: Exception) -> str:
    text = str(error)
    if isinstance(error, RefusedError):
        return f'Checkpoint {path} was refused: {text}'
    outside = re.search(r'a checkpoint may name [^\n]*', text)  # from our own allow list
    if outside:
        return f'Checkpoint {path} was refused: {outside.group()}'
    unknown = re.search(r"(?:GLOBAL|class) '?([\w.]+)", text)
    if isinstance(error, pickle.UnpicklingError) and unknown:
        return (f'Checkpoint {path} asks for {unknown.group(1)}, which is not among the things a checkpoint may '
                'contain, so it was not loaded. Only if you trust the file and that is a class you know, allow it: '
                'torch.serialization.add_safe_globals([...]).')
    if isinstance(error, (pickle.UnpicklingError, MemoryError, RecursionError)) and zipfile.is_zipfile(path):
        detail = (re.findall(r'WeightsUnpickler error: ([^\n]+)', text) or [_first_line(error)])[-1]
        return (f'Checkpoint {path} was refused: it asks for more than weights and plain values ({detail}). Do not '
                'trust it; give one whose origin you know.')
    size = os.path.getsize(path)
    return (f'Checkpoint {path} ({size} bytes) is incomplete or not a checkpoint. It was probably cut off while '
            f'being copied or written: copy it again, or use an earlier one. ({_first_line(error)})')


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0].partition(". ")[0]}' if text else type(error).__name__
