"""Settings of Sphinx: ``make docs`` builds the site."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "sb3_esac"
author = "sb3_esac contributors"
project_copyright = f"2026, {author}"
release = version = (ROOT / "sb3_esac" / "version.txt").read_text().strip()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
# Headings down to this level can be linked to as page.md#title.
myst_heading_anchors = 3
html_title = f"sb3_esac {release}"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
# What a reader copies are the commands, not the prompts.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Needed by parts of the package that are optional; only their names matter to the reference.
autodoc_mock_imports = ["rl_zoo3", "optuna", "ray", "shimmy", "dm_control"]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
# One argument per line where they do not fit into one.
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
