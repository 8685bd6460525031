"""MMEngine reads local checkpoints (``--resume``, ``load_from``, ``tools/test.py``) as this package
does: by torch's safe unpickler, whatever the versions, and with one clear sentence where it can't.

OneDL's MMEngine unpickles a file that the safe unpickler refuses once more without it, and so runs
a hostile file's code; torch before 2.6 never asked the safe one.
"""
from mmengine.runner import CheckpointLoader

from .checkpoint_file import read_checkpoint


def load_from_local(filename: str, map_location=None) -> dict:
    """Stands in for MMEngine's loader of the same name, whose log line it keeps.

    Args:
        filename (str): a local file.
        map_location: as :func:`torch.load` takes it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it can't be used; see :func:`read_checkpoint`.
    """
    # A resumed run may write a checkpoint of this name again while its tensors live.
    return read_checkpoint(filename, map_location, mmap=False)


def read_local_checkpoints_safely() -> None:
    """Register :func:`load_from_local` with MMEngine for paths without a scheme. Safe to repeat."""
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
