"""Configs read, and models built from them, with one clear sentence where that can't be done.

A config is a Python program: reading one runs it. Use those that you trust.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config


class ConfigError(ValueError):
    """A config that can't be used; the message names the file and says why."""


def read_config(path: str | Path) -> Config:
    """A config from its file.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it can't be read, whatever goes wrong in it, or holds no model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no config at {path}')
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:  # a config is a program and can raise anything
        raise ConfigError(f'{path} can\'t be read as a config: {one_line(error)}') from error
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'{path} has no "model" that is a dictionary')
    return cfg


@contextmanager
def building(what: str) -> Iterator[None]:
    """Whatever a model's classes make of their arguments becomes a :class:`ConfigError`.

    Args:
        what (str): is built inside the context, for the message: 'the backbone'.
    """
    try:
        yield
    except Exception as error:
        raise ConfigError(f'{what} can\'t be built from its config: {one_line(error)}') from error


def one_line(error: BaseException, most: int = 400) -> str:
    """Kind and text of an exception, without line breaks."""
    text = ' '.join(str(error).split())
    text = text if len(text) <= most else f'{text[:most - 3]}...'
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
