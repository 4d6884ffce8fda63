"""The book: the lessons as they are stored, the library's reference, and what ties them together.

    python -m sphinx -n -W --keep-going -b html site site/_build/html

needs the extras `cpu` and `site`, and no network. Nothing is executed: the lessons' outputs are those in `notebooks/`.
"""

import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path

SITE = Path(__file__).resolve().parent
ROOT = SITE.parent
sys.path.insert(0, str(SITE))

import docstrings  # noqa: E402
from docutils import nodes  # noqa: E402
from pybtex.database import parse_file  # noqa: E402
from sphinx.util import logging  # noqa: E402

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # only signatures and docstrings are wanted

# The one setting for whoever publishes the book: the address of the repository on GitHub. With it each lesson gets buttons
# for Binder and Colab.
repository = os.environ.get("ADVLIB_REPOSITORY", "")

PAPERS = {entry.fields["eprint"]: key for key, entry in parse_file(str(SITE / "references.bib")).entries.items()
          if "eprint" in entry.fields}  # fmt: skip


def gather():
    """Copy what is not written in site/ but belongs to the book; what has not changed is left alone, and not read again."""
    sources = {SITE / path.relative_to(ROOT): path for path in (ROOT / "notebooks").rglob("*.ipynb")}
    sources = {target: path for target, path in sources.items() if ".ipynb_checkpoints" not in path.parts}
    sources[SITE / "troubleshooting.md"] = ROOT / "docs" / "troubleshooting.md"
    for gone in {SITE / "troubleshooting.md", *(SITE / "notebooks").rglob("*.ipynb")} - set(sources):
        gone.unlink()
    for target, path in sources.items():
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def mathjax():
    """MathJax in one file with its fonts, as the package sphinx-mathjax-offline brings it along."""
    (script,) = (f for f in importlib.metadata.files("sphinx-mathjax-offline") if f.name == "tex-svg.js")
    return str(script.locate())


gather()

project = "Adversarial robustness"
author = "The advlib maintainers"
html_title = project
html_show_copyright = False
language = "en"
smartquotes = False  # norm="linf" is code
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinxcontrib.bibtex",
    "sphinx_book_theme",
]
exclude_patterns = ["_build", "notebooks/exercises"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # scripts of another host, for sliders that need a kernel anyway
myst_enable_extensions = ["dollarmath", "deflist"]
myst_dmath_double_inline = True
myst_heading_anchors = 3

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "alpha"
bibtex_cite_id = "{key}"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
python_display_short_literal_types = True

html_theme = "sphinx_book_theme"
html_static_path = ["_static", mathjax()]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_domain_indices = False
html_theme_options = {
    "repository_url": repository,
    "repository_branch": "main",
    "use_repository_button": bool(repository),
    "launch_buttons": {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    }
    if repository
    else {},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search is in the sidebar already
    "extra_footer": "Text and figures: CC BY 4.0. Code: MIT. Equations are typeset by MathJax (Apache 2.0).",
}
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}  # its menu would load what is not here


def lesson_as_read(app, docname, source):
    """A lesson as the book reads it: figures with their alternative texts, papers linked. The file itself, which a reader
    downloads, stays as it is."""
    if not docname.startswith("notebooks/"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if "alt" in cell["metadata"]:
            cell["metadata"]["mystnb"] = {"image": {"alt": cell["metadata"]["alt"]}}
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            cell["source"] = re.sub(r"\barXiv\s+(\d{4}\.\d{4,5})", r"{arxiv}`\1`", text)
    source[0] = json.dumps(notebook)


def arxiv(name, rawtext, text, lineno, inliner, options=None, content=None):
    """The role `arxiv`: a link to the paper's entry in the bibliography."""
    env = inliner.document.settings.env
    if text not in PAPERS:
        logging.getLogger(__name__).warning("arXiv %s is not in references.bib", text, location=env.docname)
    address = env.app.builder.get_relative_uri(env.docname, "references") + f"#{PAPERS.get(text, '')}"
    return [nodes.reference(rawtext, f"arXiv {text}", refuri=address, internal=True)], []


def open_the_file(app, doctree, docname):
    """Where a page names a file of the library that is shown in the book, the name becomes a link to it."""
    shown = getattr(app.env, "_viewcode_modules", {})
    for literal in list(doctree.findall(nodes.literal)):
        module = literal.astext().removesuffix(".py").replace("/", ".")
        if shown.get(module) and literal.astext().endswith(".py") and app.builder.format == "html":
            address = app.builder.get_relative_uri(docname, f"_modules/{module.replace('.', '/')}")
            literal.replace_self(nodes.reference("", "", literal.deepcopy(), refuri=address, internal=True))


def mend(app, pagename, templatename, context, doctree):
    """Two faults of the pages as they come. Beside each definition in a file of the library viewcode puts a link to the
    reference, under the name of one module for the whole file: those of another name would lead nowhere, and go. And the
    entries of the bibliography stand in a list without being its items, which a screen reader stumbles over."""
    if pagename.startswith("_modules/"):
        known = app.env.get_domain("py").objects
        link = r'<a class="viewcode-back" href="[^"#]*#([^"]+)">.*?</a>\n?'
        context["body"] = re.sub(link, lambda match: match[0] if match[1] in known else "", context["body"])
    elif pagename == "references":
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    app.add_role("arxiv", arxiv)
    app.connect("source-read", lesson_as_read)
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-process-signature", docstrings.signature)
    app.connect("doctree-resolved", open_the_file)
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True}
