"""The report of an audit in a real browser: it opens without a network, fits a telephone, and prints what is folded away."""

import base64

import pytest
from browser import chromium
from test_report import AMBER, GREEN, RED, make

from advlib.report import render

pytestmark = pytest.mark.browser

WIDTHS = (1200, 390)
# Text of a figure is measured as it is drawn, since a narrow page shrinks the figure.
SMALLEST = """Math.min(...[...document.querySelectorAll('main *')].filter(e => e.checkVisibility()
    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
        const drawing = e.closest('svg[viewBox]');
        const scale = drawing ? drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : 1;
        return parseFloat(getComputedStyle(e).fontSize) * scale;
    }))"""
# Text that a narrow page cuts off; what stands in a table that scrolls is not cut off.
CUT = """[...document.querySelectorAll('h1, h2, h3, p, dd, li, pre, caption span, tr.suite span, figcaption, .row div')].filter(
    e => e.checkVisibility() && (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline'
    || e.getBoundingClientRect().right > innerWidth)).map(e => e.textContent.trim().slice(0, 80))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    names = {"name": "a-network-with-a-name-that-no-line-of-a-telephone-holds_epoch_100.keras"}
    report = make(n=200, classes=10, flags=(RED, AMBER, GREEN), model=make().model | names)
    (folder / "report.html").write_text(render(report), encoding="utf-8")
    with chromium(folder) as page:
        page.send(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        page.open((folder / "report.html").as_uri())
        page.wait_for("document.readyState === 'complete'", "the report")
        yield page


def test_it_opens_offline_and_whole(page):
    assert not page.errors
    assert all(address.startswith(("file:", "data:")) for address in page.requests)
    assert sum(address.startswith("file:") for address in page.requests) == 1
    assert page.evaluate("[...document.images].map(i => i.naturalWidth)") == [8] * 18


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits(page, width):
    page.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT) == []
    assert page.evaluate(SMALLEST) > 9.5


def test_paper_shows_what_a_screen_folds_away(page):
    height = "document.querySelector('#flags ~ details table').getBoundingClientRect().height"
    seen = "document.querySelector('#flags ~ details table').checkVisibility({contentVisibilityAuto: true})"
    assert not page.evaluate(f"{seen} && {height} > 20")
    page.send("Emulation.setEmulatedMedia", media="print")
    page.wait_for(f"{seen} && {height} > 20", "the folded table to be drawn", 10)  # with the next frame
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert base64.b64decode(page.send("Page.printToPDF")["data"]).startswith(b"%PDF")
