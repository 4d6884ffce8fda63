"""Makes the slides of a lesson: `python -m teaching slides 03 --out talk`.

A notebook says which of its cells are shown, in the metadata `slideshow` that JupyterLab edits too:

- `slide_type`: `slide`, `subslide`, `fragment` (appears on the next key press), `notes` (for the speaker), or `-`, which
  continues the slide. A cell without this metadata is left out.
- `text`: Markdown for the wall. It stands above a code cell's output, and in place of a Markdown cell, whose prose goes to the
  speaker's notes.
- `show`: of a code cell the `output` (so it is without this key, which a `-` needs to be stored), or the `code` too.

Nothing is run: the stored outputs are shown, of each cell its figures, or else its tables, or else its text. Claims that were
checked (`ok: …`) go to the notes. nbconvert writes the HTML for reveal.js; everything that a page needs lies beside it.
"""

import importlib.metadata
import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell
from traitlets.config import Config

FOLDER = Path(__file__).parent
CLAIM = "ok: "
SIZE = (1280, 720)  # pixels of a slide


def export(notebooks, out):
    """Write the slides of each notebook into the folder `out`, beside what they load.

    notebooks: paths of .ipynb files. Returns the paths of the HTML files.

        export([Path("notebooks/03_gradient_attacks.ipynb")], "talk")

    Raises ValueError for a notebook without slides.
    """
    from nbconvert import SlidesExporter  # a second, which no other command of a teacher has to wait

    out = Path(out)
    assets = out / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    for source in (*(FOLDER / "reveal").iterdir(), FOLDER / "slides.css", FOLDER / "slides.js", mathjax()):
        shutil.copyfile(source, assets / source.name)
    exporter = SlidesExporter(
        extra_template_basedirs=[str(FOLDER)],
        template_name="template",
        config=Config(CSSHTMLHeaderPreprocessor={"style": "xcode"}),
    )
    written = []
    for path in map(Path, notebooks):
        page, _ = exporter.from_notebook_node(deck(path), {"size": SIZE})
        written.append(out / f"{path.stem}.html")
        written[-1].write_text(page, encoding="utf-8")
    return written


def mathjax():
    """MathJax in one file with its fonts, as the package sphinx-mathjax-offline brings it along."""
    (script,) = (f for f in importlib.metadata.files("sphinx-mathjax-offline") if f.name == "tex-svg.js")
    return Path(script.locate())


def deck(path):
    """The notebook in the file `path`, reduced to what is shown and said."""
    nb = nbformat.read(path, as_version=4)
    nb.cells = [part for cell in nb.cells if slideshow(cell) for part in parts(cell)]
    if not nb.cells:
        raise ValueError(
            f"{path} has no slides: a cell's metadata with "
            '{"slideshow": {"slide_type": "slide"}} was expected, for example from JupyterLab\'s property inspector'
        )
    nb.metadata.title = nb.cells[0].source.partition("\n")[0].lstrip("# ") or Path(path).stem
    return nb


def slideshow(cell):
    return cell.metadata.get("slideshow", {})


def parts(cell):
    """The cells that one cell of the lesson becomes: its text, itself, its notes."""
    kind, text = slideshow(cell).get("slide_type", "-"), slideshow(cell).get("text")
    shown = [shown_as(kind, new_markdown_cell(text))] if text else []
    if cell.cell_type == "markdown":
        return [*shown, shown_as("notes" if text else kind, cell)]
    claims = claims_of(cell)
    cell.outputs = richest([output for output in map(without_claims, cell.outputs) if output])
    notes = [shown_as("notes", new_markdown_cell("Checked:\n\n" + "\n".join(claims)))] if claims else []
    return [*shown, shown_as("-" if text else kind, cell), *notes]


def shown_as(kind, cell):
    cell.metadata["slideshow"] = slideshow(cell) | {"slide_type": kind}
    return cell


def claims_of(cell):
    lines = (line for output in cell.outputs for line in output.get("text", "").splitlines())
    return [f"- {line.removeprefix(CLAIM)}" for line in lines if line.startswith(CLAIM)]


def richest(outputs):
    """The figures among them, or else the tables, or else all."""
    for kind in ("image/png", "text/html"):
        found = [output for output in outputs if kind in output.get("data", {})]
        if found:
            return found
    return outputs


def without_claims(output):
    """The output without the lines `ok: …`; None if nothing is left."""
    if output.output_type != "stream":
        return output
    lines = [line for line in output.text.splitlines() if not line.startswith(CLAIM)]
    output.text = "\n".join(lines).strip("\n")
    return output if output.text else None
