"""Write requirements/hashes.txt: the pins of requirements/constraints.txt with SHA-256 hashes.

    python tools/dev/pin_hashes.py [--uv /path/to/uv]

For those who change a pin. Asks the package index for the hashes of all files of each version, by
way of uv (`pip install uv`). Given to pip as `-c` beside constraints.txt, the file makes it refuse
any other file; see docs/supply_chain.md.
"""
from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / 'requirements'
HEAD = '# Made by tools/dev/pin_hashes.py from constraints.txt: the same pins, with their files\' hashes.\n'
_PIN = re.compile(r'([a-z0-9-]+)(={2,3})([^\s;]+)(?:; (.+))?')
_HASHED = re.compile(r'^([a-z0-9-]+)==+([^\s;]+)[^\n]*\\\n((?:\s+--hash=sha256:[0-9a-f]{64}.*\n)+)',
                     re.MULTILINE)


def pins(text: str) -> list[tuple[str, ...]]:
    """Name, operator, version and marker ('' without one) of each line."""
    return [tuple(part or '' for part in _PIN.fullmatch(line).groups())
            for line in text.splitlines() if line and not line.startswith('#')]


def hashes(lines: list[tuple[str, ...]], python: str, uv: str) -> dict[tuple[str, str], list[str]]:
    """Name and version -> hashes of all files that the index has."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, 'wanted.txt')
        wanted.write_text(''.join(f'{name}{same}{version}\n' for name, same, version, _ in lines))
        done = subprocess.run(
            [uv, 'pip', 'compile', '--no-deps', '--generate-hashes', '--no-annotate', '--no-header',
             '--quiet', '--python-version', python, '--python-platform', 'x86_64-manylinux_2_28',
             str(wanted)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'pin_hashes: uv failed:\n{done.stderr}')
    return {(name, version): sorted(re.findall(r'sha256:[0-9a-f]{64}', block))
            for name, version, block in _HASHED.findall(done.stdout + '\n')}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--uv', default='uv', help='the program (default: %(default)s)')
    args = parser.parse_args()
    lines = pins((REQUIREMENTS / 'constraints.txt').read_text())
    old = [line for line in lines if line[3] == 'python_version < "3.11"']
    found = {**hashes([line for line in lines if line not in old], '3.11', args.uv),
             **hashes(old, '3.10', args.uv)}
    missing = [name for name, _, version, _ in lines if not found.get((name, version))]
    if missing:
        print(f'pin_hashes: no hashes for {", ".join(missing)}', file=sys.stderr)
        return 1
    (REQUIREMENTS / 'hashes.txt').write_text(HEAD + ''.join(
        f'{name}{same}{version}{marker and "; " + marker} '
        + ' '.join(f'--hash={digest}' for digest in found[name, version]) + '\n'
        for name, same, version, marker in lines))
    return 0


if __name__ == '__main__':
    sys.exit(main())
