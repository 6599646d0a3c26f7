"""How the documentation site is built: `make docs`, into build/docs.

The source folder is the repository itself, so that a link between files means the same on the site
and in a checkout, and both are checked at once. `include_patterns` says which files are pages.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated

project = "nasbench"
author = "the nasbench authors"
project_copyright = f"{author}; Apache-2.0"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "docs/**",
    "notebooks/*.ipynb",
    "README.md",
    "CHANGELOG.md",
    "experiments/README.md",
    "nasbench/supernet/README.md",
]
exclude_patterns = ["build", "runs", ".*", "**/.*"]
root_doc = "docs/index"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]

html_theme = "furo"
html_title = "nasbench"
html_copy_source = False
highlight_language = "none"  # of blocks that name no language

# Notebooks are shown as they are kept; tests/test_notebooks.py runs them.
nb_execution_mode = "off"
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

# Docstrings are Google's style with single backquotes for code.
default_role = "code"
add_module_names = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}


def setup(app):
    """Take from the program what it knows of itself."""
    app.connect("source-read", generated.fill)
    app.connect("autodoc-process-docstring", generated.show_code)
