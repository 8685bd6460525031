"""Sphinx: python -m sphinx -W --keep-going -n -c docs . build/site

The source folder is the project's, not docs/, so that links between docs/, configs/ and tools/ are the
same on the site as in a checkout.
"""
import contextlib
import pkgutil
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from docutils import nodes  # noqa: E402
from docutils.utils.math.latex2mathml import tex2mathml  # noqa: E402

from gmconv_mmdet.version import __version__ as release  # noqa: E402

project = 'gmconv_mmdet'
author = 'the authors of gmconv_mmdet'
version = release
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
root_doc = 'docs/index'
include_patterns = ['docs/*.md', 'configs/*/README.md', 'demo/networks/*.md', 'tools/README.md',
                    'CHANGELOG.md', 'CONTRIBUTING.md']
exclude_patterns = ['.*', 'build', 'dist', 'data', 'work_dirs', 'tests']  # not walked through

myst_enable_extensions = ['dollarmath', 'html_image']
myst_heading_anchors = 4  # as GitHub makes them

autodoc_typehints = 'none'  # docstrings give types and shapes
autodoc_member_order = 'bysource'
napoleon_google_docstring = True
napoleon_use_rtype = False
viewcode_line_numbers = True
# Types of other packages, whose inventories aren't at hand offline.
nitpick_ignore_regex = [('py:.*', r'(torch|nn|np|numpy|mmengine|mmcv|mmdet)\..*'),
                        ('py:class', r"'.*'|Tensor|Path|optional")]

html_theme = 'furo'
html_title = f'gmconv_mmdet {release}'
html_static_path = ['_static']
html_css_files = ['tables.css']
html_extra_path = ['_root']  # index.html, which leads to docs/index.html
html_copy_source = False
html_show_copyright = False
highlight_language = 'none'  # of blocks that name none: commands and what they print
html_math_renderer = 'mathml'  # MathJax would be fetched from the internet


def resolve_short_name(app, env, node, contnode):
    """Docstrings name things as their module does. A name of ours that is documented becomes a link,
    another one that exists stays text, and any other is a warning."""
    domain, name = env.domains['py'], node['reftarget']
    matches = [full for full in domain.objects if full.split('.')[-1] == name.split('.')[-1]]
    if len(matches) == 1:
        return domain.resolve_xref(env, node['refdoc'], app.builder, node['reftype'], matches[0], node,
                                   contnode)
    within = str(node.source).rpartition('docstring of ')[2].split('.')
    for count in range(len(within) + 1):
        with contextlib.suppress(AttributeError, ImportError, ValueError):
            pkgutil.resolve_name('.'.join([*within[:count], name]))
            return contnode
    return None


def escape_stars(app, what, name, obj, options, lines):
    """Napoleon escapes the stars of one name, not those of "*args, **kwargs"."""
    lines[:] = [line.replace('*args, **kwargs:', 'args, kwargs:') for line in lines]


def visit_math(self, node):
    block = node.tagname == 'math_block'
    if block:
        self.body.append(self.starttag(node, 'div', CLASS='math'))
    self.body.append(tex2mathml(node.astext(), as_block=block) + ('</div>' if block else ''))
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer('mathml', (visit_math, None), (visit_math, None))
    app.connect('missing-reference', resolve_short_name)
    app.connect('autodoc-process-docstring', escape_stars, priority=400)  # before Napoleon
