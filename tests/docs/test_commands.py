"""Every command in the pages: its script exists, and its arguments are accepted by the script's parser.

The scripts are started in this process up to the point where their arguments are parsed. Python in
the pages is compiled. What a command prints or does is tested with the tool, elsewhere.
"""
from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / 'README.md', REPO / 'CONTRIBUTING.md', REPO / 'tools' / 'README.md',
                *REPO.glob('docs/*.md'), *REPO.glob('configs/*/README.md')])
# Fences, and blocks of four spaces after an empty line.
BLOCK = re.compile(r'^```([^\n]*)\n(.*?)^```|(?<=\n\n)((?:    [^\n]*\n)+)', re.M | re.S)
ASSIGNMENT = re.compile(r'[A-Z_]+=')
PYTHON = {'python', 'python3'}
# Programs of others, whose options are theirs. Each use was tried by hand when it was written.
OTHERS = {'pip', 'mim', 'globox', 'git', 'grep', 'sed', 'pip-audit', 'cd', 'export', 'source', 'conda',
          'pytest'}
LAUNCHERS = {'unshare', 'torchrun', 'nohup', 'nice'}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each; an indented block has the language ''."""
    return [(language.strip(), textwrap.dedent(fenced or indented))
            for language, fenced, indented in BLOCK.findall(page.read_text(encoding='utf-8'))]


def commands(page: Path) -> list[list[str]]:
    """Commands of a page as words, without assignments before them and redirections after."""
    found = []
    for language, text in blocks(page):
        if language not in ('', 'bash', 'sh', 'shell', 'console'):
            continue
        for line in re.sub(r'\\\n\s*', ' ', text).splitlines():
            line = re.sub(r'<(\w+)>', r'\1', line.strip().lstrip('$ '))  # gm-<hash>.pth
            try:
                words = shlex.split(re.split(r'\s(?:[|;>&]|2>|&&)', line)[0], comments=True)
            except ValueError:  # an apostrophe: output, not a command
                words = []
            while words and ASSIGNMENT.match(words[0]):
                words.pop(0)
            known = PYTHON | OTHERS | LAUNCHERS | {'bash'}
            if words and (words[0] in known or language in ('bash', 'sh', 'shell')):
                found.append(words)
    return found


def without_notation(words: list[str]) -> list[str]:
    """``[CHECKPOINT]`` is given, ``...`` is not, of ``{a,b}`` the first is."""
    words = [re.sub(r'\{(\w+),[^}]*\}', r'\1', word) for word in words]
    words = [word if '=' in word else word.replace('[', '').replace(']', '') for word in words]
    return [word for word in words if word.strip('.')] if '...' in words else words


class Started(BaseException):
    """A program has built its parser and is about to use it."""


@functools.lru_cache(maxsize=None)
def parser_of(script: str) -> argparse.ArgumentParser | None:
    """The parser of a file or module, got by starting it; None for one that has none."""
    module = importlib.util.find_spec(script) if not script.endswith('.py') else None
    file = Path(module.origin if module else script)
    if not re.search(r'ArgumentParser|reproduce\.cli', file.read_text(encoding='utf-8')):
        return None

    def stop(self, *args, **kwargs):
        raise Started(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        patch.setattr(sys, 'argv', [script])
        patch.syspath_prepend(str(file.parent))
        try:
            if module:
                runpy.run_module(script, run_name='__main__', alter_sys=False)
            else:
                runpy.run_path(str(file), run_name='__main__')
        except Started as started:
            return started.args[0]
    raise AssertionError(f'{script} ended without parsing its arguments')


def check_arguments(script: str, arguments: list[str], capsys) -> None:
    if script.endswith(('gmconv_mmdet.doctor', 'tools/doctor.py')):  # looks with a fresh interpreter
        options = [word for word in arguments if word.startswith('--')]
        shown = subprocess.run([sys.executable, str(REPO / 'tools' / 'doctor.py'), '--help'], check=True,
                               capture_output=True, text=True).stdout if options else ''
        assert all(option in shown for option in options), arguments
        return
    parser = parser_of(script)
    try:
        if parser is not None:
            parser.parse_args(without_notation(arguments))
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def check(words: list[str], capsys) -> None:
    program, *rest = words
    if program in LAUNCHERS:
        start = next(i for i, word in enumerate(rest) if word in PYTHON or word.endswith('.py'))
        check(rest[start:] if rest[start] in PYTHON else ['python', *rest[start:]], capsys)
    elif program in PYTHON and rest[0] == '-m':
        if importlib.util.find_spec(rest[1].split('.')[0]):
            if rest[1].split('.')[0] in ('gmconv_mmdet', 'tests'):
                check_arguments(rest[1], rest[2:], capsys)
        else:
            assert rest[1] in ('sphinx', 'build', 'venv'), rest[1]
    elif program in PYTHON:
        check_arguments(path_of(rest[0]), rest[1:], capsys)
    elif program == 'bash':
        script = Path(path_of(rest[0])).read_text(encoding='utf-8')
        # What goes on to another program by "$@" is that one's.
        options = {word.partition('=')[0] for word in rest[1:] if word.startswith('--')}
        assert '"$@"' in script or all(option in script for option in options), words
    elif program == 'mim' and rest[:2] == ['run', 'gmconv_mmdet']:
        script, = (REPO / 'tools').rglob(f'{rest[2]}.py')
        check_arguments(str(script), rest[3:], capsys)
    elif not program.startswith('--'):  # an option to be added to another command
        assert program in OTHERS, f'{program} is accounted for nowhere: {" ".join(words)}'


def path_of(script: str) -> str:
    """Of this project, or of another one where it is installed."""
    other = re.match(r'\$?\{?PATH_TO_(MM\w+?)\}?/(?:\.mim/)?(tools/.*)', script)
    path = REPO / script
    if other:
        package = importlib.util.find_spec(other[1].lower())
        if package is None:
            pytest.skip(f'{other[1].lower()} is not installed')
        path = Path(package.origin).parent / '.mim' / other[2]
    assert path.is_file(), script
    return str(path)


COMMANDS = [pytest.param(words, id=f'{page.relative_to(REPO)}: {" ".join(words)[:90]}')
            for page in PAGES for words in commands(page)]


def test_commands_are_found():
    assert len(COMMANDS) > 50


@pytest.mark.slow
@pytest.mark.parametrize('words', COMMANDS)
def test_command(words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    check(words, capsys)
    assert not list(tmp_path.iterdir()), 'the command did more than parse its arguments'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_python_compiles(page):
    for language, text in blocks(page):
        if language in ('python', 'py'):
            ast.parse(text)


@pytest.mark.parametrize(('command', 'complaint'), [
    ('python tools/own_data.py a.json images/ --out c.py --no-such-option', 'unrecognized arguments'),
    ('python tools/own_data.py a.json images/', 'required: --out'),
])
def test_a_wrong_command_is_found(command, complaint, capsys):
    with pytest.raises(pytest.fail.Exception, match=complaint):
        check(command.split(), capsys)
