"""The slides of every lesson in a real browser: whole, legible from the back row, and without another host."""

import json
from pathlib import Path

import pytest
import typer
from browser import chromium
from typer.testing import CliRunner

from advlib import nbplugin
from teaching import slides
from teaching.slides import command

pytest.importorskip("sphinx-mathjax-offline", reason="the extra `teach` is not installed")

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDTH, HEIGHT = slides.SIZE
KINDS = {"slide", "subslide", "fragment", "notes", "-"}

# What is wrong with the slide that is shown. Fonts differ between machines, so a little room is left at the edges.
FAULTS = """(() => {
    const slide = Reveal.getCurrentSlide(), faults = [];
    slide.querySelectorAll('.fragment').forEach(fragment => fragment.classList.add('visible'));
    if (slide.scrollHeight > slide.clientHeight || slide.scrollWidth > slide.clientWidth)
        faults.push(`what it holds is ${slide.scrollWidth} × ${slide.scrollHeight} pixels`);
    const shown = [...slide.querySelectorAll('*')].filter(e => !e.closest('aside, mjx-container > *') && e.checkVisibility());
    for (const e of shown) {
        const box = e.getBoundingClientRect(), what = `${e.tagName} ${e.textContent.trim().slice(0, 60)}`;
        if (box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight - 10)
            faults.push(`${what}: ends at ${Math.round(box.right)}, ${Math.round(box.bottom)}`);
        if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline') faults.push(`${what}: is cut off`);
        const says = e.tagName === 'MJX-CONTAINER' || [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (says && parseFloat(getComputedStyle(e).fontSize) < 24) faults.push(`${what}: small`);
        if (e.tagName === 'IMG') {
            const scale = Math.min(box.width / e.naturalWidth, box.height / e.naturalHeight);
            if (!e.naturalWidth) faults.push('an image was not loaded');
            if (!e.alt) faults.push('an image has no text for who does not see it');
            if (e.naturalWidth * scale < 0.8 * innerWidth && e.naturalHeight * scale < 0.6 * innerHeight)
                faults.push(`a figure of ${e.naturalWidth * scale} × ${e.naturalHeight * scale} pixels`);
        }
    }
    if (!shown.some(e => ['H1', 'H2'].includes(e.tagName))) faults.push('it has no headline');
    return faults;
})()"""
# Formulas left as they were typed, or that MathJax could not read. Notes are seen in the speaker's window.
NOT_TYPESET = """[...document.querySelectorAll('.slides section > section')].flatMap(slide => {
    const text = slide.cloneNode(true);
    text.querySelectorAll('code, pre, mjx-container').forEach(e => e.remove());
    const bad = [...slide.querySelectorAll('[data-mml-node="merror"]')].map(e => e.textContent);
    return text.textContent.includes('$') ? [...bad, text.textContent.match(/.{0,40}[$].{0,40}/s)[0]] : bad;
})"""


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    slides.export(LESSONS, folder)
    return folder


@pytest.fixture(scope="module")
def page(talk):
    with chromium(talk) as page:
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=WIDTH,
            height=HEIGHT,
            deviceScaleFactor=1,
            mobile=False,
        )
        yield page


def opened(page, address):
    page.requests.clear()
    page.console.clear()
    page.errors.clear()
    page.open("about:blank")  # from slide to slide of one address nothing would be loaded
    page.open(address)
    page.wait_for("window.MathJax?.startup?.promise && Reveal.isReady()", "the slides")
    page.evaluate("MathJax.startup.promise.then(() => document.fonts.ready).then(() => true)")


@pytest.mark.browser
@pytest.mark.parametrize(
    "lesson", [pytest.param(path, marks=pytest.mark.full, id=path.stem) for path in LESSONS if path != LESSONS[3]]
    + [pytest.param(LESSONS[3], id=LESSONS[3].stem)],
)  # fmt: skip
def test_every_slide_is_whole_and_legible(page, talk, lesson):
    opened(page, (talk / f"{lesson.stem}.html").as_uri())
    count = page.evaluate("Reveal.getTotalSlides()")
    assert 8 <= count <= 16
    assert page.evaluate("document.querySelectorAll('mjx-container, .figure img').length") > 1
    assert page.evaluate(NOT_TYPESET) == []
    assert (
        page.evaluate("document.querySelectorAll('aside mjx-assistive-mml').length") == 0
    )  # shown twice to the speaker
    faults = {}
    for number in range(count):
        page.evaluate(f"Reveal.slide({number})")
        if found := page.evaluate(FAULTS):
            faults[number + 1] = found
    assert faults == {}
    assert not page.console
    assert all(address.startswith(("file:", "data:", "about:")) for address in page.requests)
    assert len([address for address in page.requests if address.startswith("file:")]) == 8


@pytest.mark.browser
def test_a_slide_that_is_too_full_is_found(page, talk):
    opened(page, (talk / f"{LESSONS[3].stem}.html").as_uri())
    page.evaluate("Reveal.slide(1)")
    assert page.evaluate(FAULTS) == []
    page.evaluate("Reveal.getCurrentSlide().insertAdjacentHTML('beforeend', '<p>line</p>'.repeat(20))")
    assert any("what it holds" in fault for fault in page.evaluate(FAULTS))


@pytest.mark.browser
def test_keys_turn_the_slides_and_uncover_what_was_asked(page, talk):
    opened(page, (talk / f"{LESSONS[0].stem}.html").as_uri())
    page.evaluate("Reveal.slide(3)")
    answer = "getComputedStyle(document.querySelector('.present .fragment .output, .present .fragment.output')).visibility"
    assert page.evaluate(answer) == "hidden"
    for _ in range(2):
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", windowsVirtualKeyCode=32)
        if page.evaluate("Reveal.getState().indexh") == 3:
            assert page.evaluate(answer) == "visible"
    assert page.evaluate("Reveal.getState().indexh") == 4
    assert "gradient" in page.evaluate("Reveal.getCurrentSlide().querySelector('aside.notes').textContent")


def test_the_stored_metadata_is_what_the_slides_know():
    for path in LESSONS:
        for cell in nbplugin.read(path.read_text(encoding="utf-8")).cells:
            found = cell.metadata.get("slideshow", {"slide_type": "-"})
            assert set(found) <= {"slide_type", "text", "show"} and found["slide_type"] in KINDS, (
                path,
                cell.id,
            )
            assert found.get("show", "output") in ("output", "code"), (path, cell.id)


def lesson(tmp_path, *cells):
    path = tmp_path / "lesson.ipynb"
    whole = [
        {"cell_type": "markdown", "id": str(n), "metadata": {}} | cell
        | ({"execution_count": 1} if cell.get("cell_type") == "code" else {}) for n, cell in enumerate(cells)
    ]  # fmt: skip
    path.write_text(json.dumps({"cells": whole, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def output(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def shown(**metadata):
    return {"slideshow": metadata}


def test_text_is_for_the_wall_and_prose_for_the_speaker(tmp_path):
    path = lesson(
        tmp_path,
        {"source": "# Long\n\nprose", "metadata": shown(slide_type="slide", text="# Short")},
        {"source": "left out"},
        {
            "cell_type": "code", "source": "secret()", "outputs": [output("a = 1\nok: a is one\n")],
            "metadata": shown(slide_type="fragment"),
        },
        {"cell_type": "code", "source": "f()", "outputs": [], "metadata": shown(slide_type="slide", show="code")},
    )  # fmt: skip
    (page,) = slides.export([path], tmp_path / "out")
    html = page.read_text(encoding="utf-8")
    wall, notes = html.split("</section>")[0].split('<aside class="notes">', 1)
    assert "Short" in wall and "prose" not in wall and "prose" in notes.split("</aside>")[0]
    assert "<title>Short</title>" in html and "left out" not in html and "secret" not in html
    assert ">a = 1</pre>" in html and "ok:" not in html and "<li>a is one</li>" in html
    assert 'class="highlight' in html


def test_of_a_cell_with_a_figure_the_figure_alone_is_shown(tmp_path):
    figure = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"image/png": "AAAA", "text/plain": "Figure"},
    }
    table = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<table></table>"}}
    code = {"cell_type": "code", "source": "", "metadata": {"alt": 'a "dot"'} | shown(slide_type="slide")}
    path = lesson(
        tmp_path,
        code | {"outputs": [output("words\n"), table, figure]},
        code | {"outputs": [output("w"), table]},
    )
    (page,) = slides.export([path], tmp_path / "out")
    html = page.read_text(encoding="utf-8")
    assert """alt='a "dot"'""" in html and html.count("<table>") == 1
    assert "words" not in html and 'class="output' not in html


def test_a_notebook_without_slides_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"lesson\.ipynb has no slides.*slide_type"):
        slides.export([lesson(tmp_path, {"source": "prose"})], tmp_path / "out")


def test_the_command_writes_one_page_and_what_it_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    app = typer.Typer()
    app.command()(command.slides)
    done = CliRunner().invoke(app, ["03", "--out", str(tmp_path)])
    assert done.stdout.split() == [str(tmp_path / f"{LESSONS[3].stem}.html")], done.output
    names = {path.name for path in (tmp_path / "assets").iterdir()}
    assert {"reveal.js", "reveal.css", "slides.css", "tex-svg.js", "LICENSE"} <= names
    done = CliRunner().invoke(app, ["99"])
    assert done.exit_code == 2 and "99: a notebook" in done.output
