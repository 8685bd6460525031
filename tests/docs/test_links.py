"""Links between pages, and the files that pages, messages and comments name."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / 'README.md', REPO / 'CHANGELOG.md', REPO / 'tools' / 'README.md',
                *REPO.glob('docs/*.md'), *REPO.glob('configs/*/README.md')])
SOURCES = sorted(path for folder in ('configs', 'gmconv_mmdet', 'tests', 'tools')
                 for kind in ('*.py', '*.sh') for path in (REPO / folder).rglob(kind))
# mmdet's, and one that a test asks for in vain.
NOT_OURS = {'tools/train.py', 'tools/test.py', 'tools/brew.py'}
# A path from the project's folder: not the end of a longer one, such as PATH_TO_MMDET/tools/train.py.
NAMED = re.compile(r'(?<![\w./{$-])(?:tools|tests|docs|gmconv_mmdet|configs)/[\w./-]*\.(?:py|sh|md|png)\b')


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    return {re.sub(r'[^\w\- ]', '', line.lstrip('# ').lower()).replace(' ', '-')
            for line in page.read_text(encoding='utf-8').splitlines() if line.startswith('#')}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding='utf-8')
    broken = []
    for target in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text):
        path, _, anchor = ''.join(target).partition('#')
        if '://' in path:
            continue
        there = page.parent / path if path else page
        if not there.exists() or anchor and anchor not in anchors(there):
            broken.append(''.join(target))
    assert not broken


@pytest.mark.parametrize('page', [page for page in PAGES if page.name != 'CHANGELOG.md'],
                         ids=lambda page: str(page.relative_to(REPO)))
def test_files_that_a_page_names_exist(page):
    named = set(NAMED.findall(page.read_text(encoding='utf-8'))) - NOT_OURS
    assert not [name for name in named if not Path(name).stem.isupper() and not (REPO / name).exists()]


def test_files_that_sources_name_exist():
    """Commands in docstrings, messages and comments: our tools and pages."""
    missing = [f'{path.relative_to(REPO)}: {name}' for path in SOURCES
               for name in NAMED.findall(path.read_text(encoding='utf-8'))
               if name.startswith(('tools/', 'docs/')) and name not in NOT_OURS
               and not (REPO / name).exists()]
    assert not missing


def test_every_tool_is_listed():
    """tools/README.md has a line for each script, and each is named once."""
    listed = re.findall(r'`([\w.]+\.(?:py|sh))`', (REPO / 'tools' / 'README.md').read_text(encoding='utf-8')
                        .replace('`docs/', '').replace('`requirements/', ''))
    scripts = [path.name for kind in ('*.py', '*.sh') for path in (REPO / 'tools').rglob(kind)]
    assert sorted(listed) == sorted(scripts)
