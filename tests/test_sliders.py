"""The figures with sliders, as a reader uses them: a lesson in a real JupyterLab, moved by keys and by mouse."""

import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from browser import chromium, find_chromium
from test_browser import ERRORS, IDLE, PROMPTS, checkout, lab  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.full]

# All cells of a lesson are run, as its reader runs them: a minute each.
LESSONS = ["02", "03", "04", "05", "06", "10"]
KEYS = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}
CELL = "document.querySelectorAll('.jp-Notebook .jp-Cell')[{n}]"
HANDLE = CELL + ".querySelectorAll('[role=slider]')[{slider}]"

# What the cell with the sliders shows; null while the picture loads. The sum changes with any pixel.
FIGURE = """(cell => {
    const image = cell.querySelector('.widget-html img');
    if (!image?.complete || !image.naturalWidth) return null;
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), pen = canvas.getContext('2d');
    pen.drawImage(image, 0, 0);
    const bytes = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    const box = image.getBoundingClientRect();
    return {
        src: image.src,
        sum: bytes.reduce((sum, byte) => (31 * sum + byte) | 0, 0),
        seen: document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === image,
        alt: image.alt,
        said: cell.querySelector('[role=status]').textContent,
        names: [...cell.querySelectorAll('.widget-slider .widget-label')].map(label => label.textContent),
        values: [...cell.querySelectorAll('.widget-slider .widget-readout')].map(readout => readout.textContent),
    };
})(%s)"""


# A drag passes other values on its way.
SETTLED = """(async cell => {
    const now = cell.innerHTML;
    await new Promise(done => setTimeout(done, 1000));
    return cell.innerHTML === now;
})(%s)"""
IN_VIEW = """(async image => {
    image?.scrollIntoView({block: 'center'});
    await new Promise(done => setTimeout(done, 300));
    const box = image?.getBoundingClientRect();
    return box && document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === image;
})(%s.querySelector('.widget-html img'))"""


def press(page, key):
    for event in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=event, key=key, code=key, windowsVirtualKeyCode=KEYS[key])


def drag(page, handle, pixels):
    """Take hold of a slider's handle, and let it go further to the right."""
    x, y = page.evaluate(
        f"(box => [box.x + box.width / 2, box.y + box.height / 2])({handle}.getBoundingClientRect())"
    )
    mouse = {"y": y, "button": "left", "clickCount": 1}
    page.send("Input.dispatchMouseEvent", type="mousePressed", x=x, buttons=1, **mouse)
    for share in (0.25, 0.5, 0.75, 1):
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + share * pixels, buttons=1, **mouse)
    page.send("Input.dispatchMouseEvent", type="mouseReleased", x=x + pixels, **mouse)


def drive(page, n):
    """Move every slider of cell n by the keyboard, then the first by the mouse; (slider, before, after) of each move."""
    figure = FIGURE % CELL.format(n=n)
    moves, last = [], page.wait_for(figure, "the figure with sliders")

    def move(slider, how, *given):
        how(page, *given)
        changed = f"(now => now && now.src !== {json.dumps(last['src'])})({figure})"
        page.wait_for(changed, f"the figure to follow the slider {last['names'][slider]!r}")
        page.wait_for(SETTLED % CELL.format(n=n), "the figure to come to rest")
        moves.append((slider, last, page.wait_for(figure, "the figure to be whole")))
        return moves[-1][2]

    for slider in range(len(last["names"])):
        handle = HANDLE.format(n=n, slider=slider)
        focused = f"document.activeElement === {handle}"
        if slider == 0:
            page.evaluate(f"{handle}.focus()")
        for _ in range(2):  # on from the slider before, past its value, which has the focus in between
            if not page.evaluate(focused):
                press(page, "Tab")
        page.wait_for(focused, f"slider {slider} to be reached by Tab")
        at_its_end = page.evaluate(f"{handle}.ariaValueNow === {handle}.ariaValueMax")
        last = move(slider, press, "ArrowLeft" if at_its_end else "ArrowRight")
        page.wait_for(focused, f"slider {slider} to keep the focus")
    first = HANDLE.format(n=n, slider=0)
    in_the_right_half = page.evaluate(f"{first}.ariaValueNow > {first}.ariaValueMax / 2")
    move(0, drag, first, -60 if in_the_right_half else 60)
    return moves


@pytest.fixture(scope="module", params=LESSONS)
def lesson(request, checkout, tmp_path_factory):  # noqa: F811
    """A lesson in JupyterLab: what its figure was before anything ran, and how it followed the sliders afterwards."""
    find_chromium()  # skips, before anything is started
    folder = tmp_path_factory.mktemp(f"lesson{request.param}")
    (original,) = (checkout / "notebooks").glob(f"{request.param}_*.ipynb")
    cells = json.loads(original.read_bytes())["cells"]
    (n,) = (n for n, cell in enumerate(cells) if "plots.sliders(" in "".join(cell["source"]))
    cell = CELL.format(n=n)
    with lab(checkout, folder) as address, chromium(folder) as page:
        page.open(address.replace(urlsplit(address).path, f"/lab/tree/work/{original.name}"))
        page.wait_for(IDLE, "the kernel", 120)
        count = "document.querySelectorAll('.jp-Notebook .jp-Cell').length"
        page.wait_for(f"{count} === {len(cells)}", f"the {len(cells)} cells of {original.name}", 60)
        page.evaluate(f"{cell}.scrollIntoView()")
        stored = f"{cell}.querySelector('.jp-OutputArea img')"
        page.wait_for(f"{stored}?.naturalWidth > 0", "the stored figure")
        before = page.evaluate(f"{cell}.querySelector('.jp-Cell-outputArea').textContent")
        page.click(".lm-MenuBar-item", "Run")
        page.click(".lm-Menu-item[data-command='runmenu:run-all']")
        page.wait_for(f"{PROMPTS}.some(p => p.includes('*'))", "the lesson to run")
        done = f"{PROMPTS}.every(p => /\\d/.test(p)) || {ERRORS} && !{PROMPTS}.some(p => p.includes('*'))"
        page.wait_for(done, f"all cells of {original.name} to be run", 600)
        page.wait_for(IDLE, "the kernel to be idle again", 60)
        # more than once, as what is above gets its height only when it is drawn
        page.wait_for(IN_VIEW % cell, "the figure with sliders in the middle of the window")
        page.screenshot(folder / "first.png")
        moves = drive(page, n)
        page.screenshot(folder / "moved.png")
        said_wrong = page.evaluate(f"{ERRORS}?.textContent")
    return SimpleNamespace(before=before, moves=moves, errors=page.errors, said_wrong=said_wrong)


def test_before_anything_runs_there_is_a_figure_already(lesson):
    assert "ok: " in lesson.before and "widget" not in lesson.before  # as in "Error displaying widget"


def test_the_figure_follows_each_slider(lesson):
    for slider, before, after in lesson.moves:
        assert before["seen"] and after["seen"]
        assert before["src"] != after["src"] and before["sum"] != after["sum"]
        moved = [a != b for a, b in zip(before["values"], after["values"], strict=True)]
        assert moved == [n == slider for n in range(len(moved))]
    assert {slider for slider, *_ in lesson.moves} == set(range(len(lesson.moves) - 1))


def test_who_cannot_see_it_is_told(lesson):
    for _, before, after in lesson.moves:
        assert after["alt"] == after["said"] != before["said"]
        assert all(name.strip() for name in after["names"])


def test_nothing_goes_wrong(lesson):
    assert lesson.errors == [] and lesson.said_wrong is None
