"""How Sphinx builds the site: ``make docs``."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

project = "lightning_adv"
author = "the lightning_adv authors"
release = version = installed("lightning-adv")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "site_pages",  # beside this file: pages that are made of the code and of the configurations
]
exclude_patterns = ["_build"]

# Signatures as they are typed in the source, on lines of their own where they are long.
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
maximum_signature_line_length = 88
python_display_short_literal_types = True
add_module_names = False
nitpick_ignore_regex = [("py:class", ".*")]  # types of other libraries; Python itself has checked that they exist
napoleon_numpy_docstring = False
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "cache"  # run once, and again when a cell changes
nb_execution_timeout = 3600
nb_execution_raise_on_error = True

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "lightning_adv"
html_static_path = ["_static", "../lightning_adv/reports/templates/tables.js"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"}), ("tables.js", {"defer": "defer"})]
html_show_sourcelink = False
html_show_copyright = False
