"""How the documentation is built: `sphinx-build -W docs build/docs`. Nothing is fetched."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_ext")]
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import kerasrep  # noqa: E402

project = "kerasrep"
author = "kerasrep authors"
project_copyright = "the kerasrep authors, MIT licence"
version = release = kerasrep.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_ext"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_in_temp = True
nb_execution_timeout = 600  # seconds a cell: corpus and audio may have to be rendered
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
default_role = "literal"  # docstrings write `code` as Markdown does

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"kerasrep {release}"
html_static_path = ["_static"]
html_css_files = ["kerasrep.css"]
html_copy_source = False
html_show_sphinx = False
