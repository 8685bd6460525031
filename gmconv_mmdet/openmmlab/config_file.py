"""Configs read, looked into, and models built from them; one clear sentence where that fails.

A config is a Python program: reading one runs it. Use those that you trust.
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope


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


def find_detector(model: Mapping, path: tuple[str, ...] = ()) -> tuple[tuple[str, ...], Mapping]:
    """The part of a model config that holds ``backbone``, and the keys which lead there.

    Raises:
        ValueError: if there is none (``model.detector`` of trackers and the like is found).
    """
    if isinstance(model.get('backbone'), Mapping):
        return path, model
    for key, value in model.items():
        if isinstance(value, Mapping):
            try:
                return find_detector(value, path + (key,))
            except ValueError:
                continue
    raise ValueError('the config has no model with a backbone, nothing to analyse')


def find_key(node: Any, key: str, keys: tuple = ()) -> Iterator[tuple[tuple, Mapping]]:
    """Every dictionary in ``node`` that has ``key``, with the way there."""
    if isinstance(node, Mapping):
        if key in node:
            yield keys, node
        for name, child in node.items():
            yield from find_key(child, key, (*keys, name))
    elif isinstance(node, (list, tuple)):
        for i, child in enumerate(node):
            yield from find_key(child, key, (*keys, i))


def without_weights(cfg: Any) -> Any:
    """A copy of a model config that builds without loading or downloading anything."""
    if isinstance(cfg, Mapping):
        return {key: without_weights(value) for key, value in cfg.items()
                if key not in ('init_cfg', 'pretrained')}
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_weights(value) for value in cfg)
    return copy.deepcopy(cfg)


def config_scope(cfg: Config) -> AbstractContextManager[None]:
    """Names in configs are looked up in the config's default scope inside this context."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmdet')


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
