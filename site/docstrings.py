"""advlib's docstrings as reStructuredText: prose in which parameters stand as `name: meaning`, code in backticks."""

import inspect
import re
from pathlib import Path

from sphinx.util.inspect import stringify_signature

import advlib

LESSONS = {
    path.name[:2]: path.stem for path in (Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb")
}
SPECIAL = re.compile(r"(`[^`]+`|(?<![\w*])\*\w[^*\n]*\*(?![\w*])|arXiv \d{4}\.\d{4,5}|[Ll]essons? \d\d)")
SECTIONS = re.compile(
    r"\n(?=Returns|Raises|Sources?:|Columns:)|(?<=[.;])\s(?=Everything else|Everything as|Arguments)"
)
GLUE = "\0"  # becomes "\\ ", which separates markup from what it touches and is not shown


def process(app, what, name, obj, options, lines):
    """Sphinx's event autodoc-process-docstring."""
    text = "\n".join(lines).strip("\n")
    lines[:] = [line for block in re.split(r"\n\s*\n", text) for line in rest(block, parameters(obj))]


def parameters(obj):
    """The names of what is passed to a function or class; none for anything else."""
    try:
        return [name for name in inspect.signature(obj).parameters if name not in ("args", "kwargs")]
    except (TypeError, ValueError):
        return []


def signature(app, what, name, obj, options, arguments, result):
    """Sphinx's event autodoc-process-signature: a defence's own arguments, which Keras hides behind (*args, **kwargs)."""
    if what == "class" and arguments == "(*args, **kwargs)":
        return stringify_signature(inspect.signature(obj), show_annotation=False), result
    return None


def rest(block, names):
    """One block of a docstring, without blank lines in it, as lines of reStructuredText."""
    first = block.lstrip()
    if block.startswith("    ") or first.startswith((">>>", "|")):
        language = "pycon" if first.startswith(">>>") else "text"
        return [f".. code-block:: {language}", "", *("   " + line for line in block.splitlines()), ""]
    if first.startswith("- "):
        return [*(joined(item) for item in re.split(r"\n(?=- )", block)), ""]
    lines = []
    for part in SECTIONS.split(block):
        entries = [] if part.startswith(("Returns", "Raises", "Source")) else split(part, names)
        lead = part[: entries[0][0]] if entries else part
        lines += [joined(lead), ""] if lead.strip() else []
        for _, parameter, meaning in entries:
            called = ", ".join(f"``{one}``" for one in parameter.split(", "))
            lines += [called, "   " + joined(meaning), ""]
    return lines


def split(text, names):
    """Where in `text` a parameter's meaning begins: (position, "eps, norm", meaning)."""
    if not names:
        return []
    one = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    found = list(re.finditer(rf"(?:^|(?<=\n)|(?<=[.;] ))((?:{one})(?:, (?:{one}))*): ", text))
    ends = [match.start() for match in found[1:]] + [len(text)] * bool(found)
    return [
        (match.start(), match[1], re.sub(r";\s*$", ".", text[match.end() : end]))
        for match, end in zip(found, ends, strict=True)
    ]


def joined(text):
    """Prose in one line, with everything escaped that reStructuredText would take for markup, and links to code, papers and
    lessons."""
    parts = SPECIAL.split(text)
    parts[::2] = (re.sub(r"([\\*_|`])", r"\\\1", part) for part in parts[::2])
    parts[1::2] = (GLUE + special(part) + GLUE for part in parts[1::2])
    return " ".join("".join(parts).split()).replace(GLUE, "\\ ")


def special(part):
    if part.startswith("*"):
        return part
    if part.startswith("arXiv"):
        return f":arxiv:`{part.split()[1]}`"
    if part.startswith("`"):
        name = " ".join(part[1:-1].split())
        target = documented(name)
        return f":py:obj:`{name} <{target}>`" if target else f"``{name}``"
    return f":doc:`{part} </notebooks/{LESSONS[part[-2:]]}>`"


def documented(name):
    """The full name under which the reference has an attack, `evaluate`, or something of a module; None for other code."""
    short = name.removeprefix("advlib.")
    if short in advlib._ATTACKS:
        return f"advlib.{short}"
    if short in advlib._NAMES:
        return f"advlib.{advlib._NAMES[short]}.{short}"
    module, _, attribute = short.partition(".")
    if module in advlib._MODULES and callable(getattr(getattr(advlib, module), attribute, None)):
        return f"advlib.{short}"
    return None
