"""The book: it builds without a warning, says what is so, and works in a browser without a network, at a desk and on a phone.

Needs the extras `cpu`, `site` and `test`; skips where Sphinx is absent.
"""

import functools
import importlib
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from browser import chromium

pytest.importorskip("myst_nb", reason="the extra `site` is not installed")

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of the book, built without a warning as the maintainer builds it."""
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html"]
    env = {**os.environ, "ADVLIB_REPOSITORY": ""}
    done = subprocess.run(
        [*command, "-d", out / "doctrees", SITE, out / "html"], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr[-5000:]
    return out / "html"


@pytest.fixture(scope="module")
def pages(book):
    """Every page, as a path inside the book."""
    found = sorted(path.relative_to(book).as_posix() for path in book.rglob("*.html"))
    found = [page for page in found if not page.startswith("_static")]
    assert len(found) > 60 and {f"notebooks/{path.stem}.html" for path in LESSONS.values()} <= set(found)
    return found


@pytest.fixture(scope="module")
def address(book):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=book))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(tmp_path):
    with chromium(tmp_path) as page:
        yield page


def size(page, name):
    width, height = SIZES[name]
    page.send(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=name == "phone",
    )


def visit(page, url):
    """Open a page of the book and wait until its equations are typeset."""
    page.open(url)
    page.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'", url)
    page.wait_for("window.MathJax?.startup ? MathJax.startup.promise.then(() => true) : true", "MathJax")


# ---- what the pages say


class Addresses(HTMLParser):
    """What a page links to and loads, and the anchors in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors = set(), set(), {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if "src" in attributes or (tag == "link" and "href" in attributes):
            self.loaded.add(attributes.get("src") or attributes["href"])
        elif tag == "a" and "href" in attributes:
            self.links.add(attributes["href"])


def test_every_link_inside_the_book_holds(book, pages):
    read = {page: Addresses((book / page).read_text(encoding="utf-8")) for page in pages}
    wrong, seen = [], 0
    for page, found in read.items():
        for link in found.links | found.loaded:
            parts = urlsplit(urljoin(f"book:///{page}", link) if not urlsplit(link).scheme else link)
            if parts.scheme not in ("book", ""):
                assert parts.scheme in ("https", "data", "mailto") and link not in found.loaded, (page, link)
                continue
            seen += 1
            target = unquote(urlsplit(urljoin(f"http://book/{page}", link)).path).lstrip("/")
            if not (book / target).is_file():
                wrong.append((page, link, "no such file"))
            elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].anchors:
                wrong.append((page, link, "no such anchor"))
    assert seen > 1000 and wrong == []


def test_nothing_is_loaded_from_another_host(book):
    outside = re.compile(r"""url\(\s*['"]?(?:https?:)?//|@import\s+['"](?:https?:)?//""")
    styles = list(book.rglob("*.css"))
    assert styles and [str(path) for path in styles if outside.search(path.read_text(encoding="utf-8"))] == []


def test_what_a_reader_downloads_is_the_lesson_as_stored(book, pages):
    for path in LESSONS.values():
        page = (book / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert f"_sources/notebooks/{path.name}" in page
        assert (book / "_sources" / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_each_public_name_is_in_the_reference(book):
    import advlib

    documented = set(
        re.findall(r'id="(advlib\.[\w.]+)"', "".join(p.read_text("utf-8") for p in book.glob("api/*.html")))
    )
    public = {f"advlib.{name}" for name in advlib._ATTACKS} | {
        f"advlib.{module}.{name}"
        for module in ("training", "diagnostics", "models", "report", "sealed", "loading")
        for name in importlib.import_module(f"advlib.{module}").__all__
        if callable(getattr(importlib.import_module(f"advlib.{module}"), name))
    }
    constants_and_helpers = {
        "advlib.training.order",
        "advlib.loading.import_module",
        "advlib.sealed.digest",
        "advlib.models.ProbabilitiesNotLogitsError",
    }
    assert public - documented <= constants_and_helpers
    assert {"advlib.robustness.evaluate", "advlib.auditing.audit", "advlib.norms.Norm.project"} <= documented


def test_every_paper_cited_by_number_is_in_the_bibliography():
    bibliography = set(
        re.findall(r"eprint = \{([\d.]+)\}", (SITE / "references.bib").read_text(encoding="utf-8"))
    )
    sources = [*(ROOT / "advlib").rglob("*.py"), *LESSONS.values(), ROOT / "README.md"]
    cited = {
        number
        for path in sources
        for number in re.findall(r"\b\d{4}\.\d{5}\b|\b1[0-4]\d\d\.\d{4}\b", prose(path))
        if 7 <= int(number[:2]) <= 30 and 1 <= int(number[2:4]) <= 12
    }
    assert len(cited) > 50 and cited <= bibliography
    assert bibliography <= cited, "nobody cites these"


def prose(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_each_term_of_the_glossary_is_in_the_lesson_that_it_names():
    text = (SITE / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^(\w.*)\n((?:  .*\n)+)", text.split("```{glossary}")[1], re.M)
    assert len(entries) > 60
    for terms, body in entries:
        (number,) = set(re.findall(r"\(notebooks/(\d\d)_\w+\.ipynb\)", body))
        assert f"[Lesson {number}]" in body
        lesson = prose(LESSONS[number]).lower()
        for term in terms.split(", "):
            word = re.sub(
                r"('s theorem|'s test| attack| label| norm| perturbation| constant| interval)$", "", term
            )
            assert word.lower().rstrip("s") in lesson, f"{term!r} is not in lesson {number}"


def rows(heading):
    """Of a table of attacks: name → (knows, norms, cost, lesson)."""
    section = (SITE / "attacks.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(
        r"^\| \{py:func\}`~advlib\.(\w+)` \| (.+?) \| (.+?) \| (.+?) \| .+ \| \[(\d\d)\]", section, re.M
    )
    return {name: rest for name, *rest in found}


def test_the_table_of_attacks_is_the_library(images, small_net):
    import advlib
    from advlib import norms
    from advlib.attacks import BlackBox, NoGradientError
    from advlib.attacks.autoattack import QUERIES, STEPS, TARGETS

    x, y = (a[:2] for a in images)
    within, smallest = rows("Within a budget"), rows("The smallest perturbation")
    around = {"bpda", "eot", "patch", "transfer", "universal"}
    assert {*within, *smallest, *around} == set(advlib._ATTACKS)
    calls = {}
    for name, (knows, takes, cost, lesson) in {**within, **smallest}.items():
        attack = getattr(advlib, name)
        default = {key: value.default for key, value in inspect.signature(attack).parameters.items()}
        assert ("eps" in default and default["eps"] is inspect.Parameter.empty) == (name in within)
        assert f"Lesson {lesson}" in inspect.getdoc(attack)
        small = {"steps": 1} if "steps" in default else {}
        small |= {"samples": 1} if "samples" in default else {}
        small |= {"initial_evals": 2} if "initial_evals" in default else {}
        small |= {"searches": 1} if "searches" in default else {}
        accepted = set()
        for norm in norms._NORMS if hasattr(norms, "_NORMS") else ("linf", "l2", "l1", "l0"):
            budget = {"eps": 0.1 if norm == "linf" else 1.0} if name in within else {}
            if "norm" not in default:
                continue
            if name == "autoattack":  # dear, and its message lists what it takes
                with pytest.raises(ValueError, match=r"linf.*l2.*l1"):
                    attack(small_net, x, y, eps=0.1, norm="l7")
                accepted = {"L∞", "L2", "L1"}
                continue
            try:
                attack(small_net, x, y, norm=norm, **budget, **small)
                accepted.add(norms.get(norm).label if hasattr(norms.get(norm), "label") else norm)
            except ValueError as error:
                assert "norm" in str(error)
        labels = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}
        accepted = {labels.get(norm, norm) for norm in accepted}
        if accepted:
            assert accepted == set(takes.split(", ")), name
        if name != "autoattack":
            budget = {"eps": 0.1} if name in within else {}
            box = BlackBox(small_net, labels=knows == "label")
            if knows == "gradient":
                with pytest.raises(NoGradientError):
                    attack(box, x, y, **budget, **small)
            else:
                attack(box, x, y, **budget, **small)
        calls[name] = (
            default,
            [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", cost)],
        )
    steps = {name: default["steps"] for name, (default, _) in calls.items() if "steps" in default}
    expected = {
        "fgsm": [1],
        "autoattack": [STEPS * (1 + 2 * TARGETS), QUERIES, 2],
        "carlini_wagner": [steps["carlini_wagner"] * calls["carlini_wagner"][0]["searches"]],
        **{name: [steps[name] * (2 * calls[name][0]["samples"] + 1)] for name in ("spsa", "nes")},
        "boundary": [round(1.1 * steps["boundary"])],
    }
    for name, (_, numbers) in calls.items():
        said = [n for n in numbers if n != 1 or name == "fgsm"]
        if name == "hop_skip_jump":
            assert f"{said[0]:,} after {steps[name]}" in inspect.getdoc(advlib.hop_skip_jump)
        else:
            assert said[: len(expected.get(name, [0]))] == expected.get(name, [steps.get(name)]), name


def test_launch_buttons_want_the_one_setting(book, monkeypatch):
    assert not any("mybinder" in path.read_text(encoding="utf-8") for path in book.glob("notebooks/*.html"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, there in (("", False), ("https://github.com/someone/course", True)):
        monkeypatch.setenv("ADVLIB_REPOSITORY", name)
        options = runpy.run_path(str(SITE / "conf.py"))["html_theme_options"]
        assert (options["repository_url"], bool(options["launch_buttons"])) == (name, there)


# ---- in a browser

SEEN = r"""(() => {
    const article = document.querySelector("article, main");
    const images = [...document.images].filter(
        i => !(i.complete && i.naturalWidth > 0) || !i.alt.trim() || /\.(png|svg|jpe?g)$/.test(i.alt));
    const text = article.cloneNode(true);
    text.querySelectorAll("pre, code, script, mjx-container").forEach(e => e.remove());
    return {
        images: images.map(i => i.src),
        raw: (text.textContent.match(/\\\(|\\\[|\$\$|\\(?:frac|sum|le|eps)\b/g) || []).length,
        untypeset: [...document.querySelectorAll(".math")].filter(m => !m.querySelector("mjx-container")).length,
        failed: document.querySelectorAll("[data-mml-node=merror], mjx-merror").length,
        wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        empty: article.textContent.trim().length < 20,
        math: document.querySelectorAll("mjx-container").length,
    };
})()"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("desktop", 3),
        pytest.param("desktop", 1, marks=pytest.mark.full),
        pytest.param("phone", 1, marks=pytest.mark.full),
    ],
)
def test_pages_in_a_browser(page, pages, address, name, every):
    """Equations typeset, images there and described, no sideways scrolling, a clean console, no other host. In every change
    on a third of the pages, in .ci/full on all."""
    size(page, name)
    wrong, equations = [], 0
    for path in pages[::every]:
        page.console.clear()
        page.requests.clear()
        visit(page, address + path)
        seen = page.evaluate(SEEN)
        equations += seen.pop("math")
        seen["console"] = [line for line in page.console if line.startswith(("error", "warning", "assert"))]
        seen["elsewhere"] = [url for url in page.requests if not url.startswith((address, "data:", "blob:"))]
        wrong += [(path, what, problem) for what, problem in seen.items() if problem]
    assert not wrong, "\n".join(map(str, wrong))
    assert equations > 500 / every / 2


@pytest.mark.browser
def test_search_finds_a_word_and_opens_the_hit(page, address):
    size(page, "desktop")
    visit(page, address + "search.html?q=catastrophic")
    hit = page.wait_for("document.querySelector('ul.search li a')?.href", "a hit")
    assert hit.startswith(address)
    page.evaluate("document.querySelector('ul.search li a').click()")
    page.wait_for(
        "document.readyState === 'complete' && !location.pathname.endsWith('search.html')", "the hit"
    )
    assert "catastrophic" in page.evaluate("document.querySelector('article').textContent.toLowerCase()")
    assert page.errors == []


@pytest.mark.browser
def test_the_keyboard_reaches_content_search_and_menu(page, address):
    size(page, "desktop")
    visit(page, address + "notebooks/03_gradient_attacks.html")

    def press(key, code):
        for event in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=event, key=key, code=key, windowsVirtualKeyCode=code)

    press("Tab", 9)
    assert "skip" in page.evaluate("document.activeElement.textContent").lower()
    reached = []
    for _ in range(60):
        press("Tab", 9)
        reached.append(
            page.evaluate(
                "document.activeElement.closest('nav, form, article, button, a')?.outerHTML.slice(0, 300)"
            )
        )
    text = " ".join(filter(None, reached))
    assert "search" in text.lower(), "the search"
    assert "04_iterative_attacks" in text or "bd-links" in text, "the menu"
    visit(page, address + "notebooks/03_gradient_attacks.html")
    press("Tab", 9)
    page.send(
        "Input.dispatchKeyEvent",
        type="keyDown",
        key="Enter",
        code="Enter",
        windowsVirtualKeyCode=13,
        text="\r",
    )
    page.wait_for("location.hash === '#main-content'", "the skip link")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("theme", "every"),
    [("light", False), ("dark", False), pytest.param("light", True, marks=pytest.mark.full)],
    ids=["light", "dark", "every"],
)
def test_axe_finds_nothing_serious(page, pages, address, theme, every):
    """Deque's axe-core: contrast, names, roles. In every change on pages that differ in kind, in .ci/full on all."""
    import axe_core_python

    axe = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    if not every:
        pages = ["index.html", "attacks.html", "api/attacks.html", "notebooks/05_measuring_robustness.html"]
        pages += ["_modules/advlib/attacks/pgd.html", "references.html", "glossary.html"]
    size(page, "desktop")
    visit(page, address + "index.html")
    page.evaluate(f"localStorage.setItem('mode', '{theme}'), localStorage.setItem('theme', '{theme}')")
    found = []
    for path in pages:
        visit(page, address + path)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        page.evaluate(axe + "; true")
        violations = page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => "
            "[v.impact, v.id, v.nodes.length, v.nodes.slice(0, 3).map(n => n.html.slice(0, 160))]))"
        )
        found += [(path, *violation) for violation in violations if violation[0] in ("serious", "critical")]
    assert not found, "\n".join(map(str, found))
