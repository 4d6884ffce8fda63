"""What each lesson takes, and what each exercise is worth: the tables of teaching/guide.md, from the notebooks.

    python tools/minutes.py                    says whether the guide has them as they are now
    python tools/minutes.py --write            puts them into the guide, after a lesson or an exercise has changed
    python tools/minutes.py --measure [03 …]   runs lessons; seconds by section and memory go to teaching/measured.json

A section is read at 200 words a minute, text and code alike, and its cells run for the seconds that --measure found. That
is the least it takes. A lesson's own statement ("110 minutes") includes pencil and paper, predictions and the open
questions at its end; an exercise notebook states its minutes in its first cell. --measure needs Linux.
"""

import argparse
import json
import math
import os
import re
import sys
import textwrap
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "notebooks"
EXERCISES = ROOT / "teaching" / "exercises"
GUIDE = ROOT / "teaching" / "guide.md"
MEASURED = ROOT / "teaching" / "measured.json"
WORDS_A_MINUTE = 200
OPENING = "opening"  # what stands before the first heading
NOT_READ = ("Exercises", "Sources")  # worked on or looked up, not read through


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def lessons():
    """The lessons by number: {"03": its path, …}."""
    return {path.stem[:2]: path for path in sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))}


def sections(path):
    """Pieces of a lesson as (section, cell number, text), cut at every heading of level two; fences are no headings."""
    section = OPENING
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] != "markdown":
            yield section, number, source(cell)
            continue
        for piece in re.split(r"^(?=## )", source(cell), flags=re.M):
            heading = re.match(r"## (.+)", piece)
            section = heading[1].strip() if heading else section
            yield section, number, piece


def reading(path):
    """Minutes of reading by section, in the lesson's order."""
    words = {}
    for section, _, text in sections(path):
        words[section] = words.get(section, 0) + len(text.split())
    return {name: n / WORDS_A_MINUTE for name, n in words.items() if name not in NOT_READ}


def running(number):
    """Seconds of computing by section, as measured; an error says what to do where a section is new."""
    known = json.loads(MEASURED.read_text(encoding="utf-8"))["lessons"]
    path = lessons()[number]
    computed = {section for section, i, _ in sections(path) if cells(path)[i]["cell_type"] == "code"}
    missing = computed - set(known.get(number, {}).get("seconds", {}))
    if missing:
        sys.exit(
            f"lesson {number}: {', '.join(sorted(missing))} in {MEASURED.name} was expected: run "
            f"python tools/minutes.py --measure {number}"
        )
    return known[number]["seconds"]


def stated(path):
    """The minutes that a lesson or an exercise notebook states itself."""
    text = " ".join(source(cell) for cell in cells(path)[:3] if cell["cell_type"] == "markdown")
    return int(re.search(r"\b(\d+) minutes", text)[1])


def marked():
    """Exercises by lesson: {"03": {"minutes": 120, "points": {"03.1": (3, "code"), …}}, …}; kinds: code, prediction, words."""
    found = {}
    for path in sorted(EXERCISES.glob("[0-9][0-9]_*.ipynb")):
        points, title = {}, ""
        for cell in cells(path):
            heading = re.search(r"^## (\d\d\.\d+)(.*)", source(cell), re.M)
            title = heading or title
            about = cell["metadata"].get("nbgrader", {})
            if about.get("grade"):
                by_hand = cell["cell_type"] == "markdown"
                before = "prediction" if "(before running)" in title[2] else "code"
                points[title[1]] = int(about["points"]), "words" if by_hand else before
        found[path.stem[:2]] = {"minutes": stated(path), "points": points}
    return found


# --- the tables


def minutes(value):
    return f"{value:.0f}" if value >= 0.95 else "<1"


def of_a_lesson(number):
    path = lessons()[number]
    read, run = reading(path), running(number)
    total, seconds = sum(read.values()), sum(run.values())
    whole = stated(path)
    line = (
        f"{whole} minutes stated: {minutes(total)} of reading, {seconds:.0f} seconds of computing, the rest for pencil and "
        "paper, predictions, discussion and the questions at the end. By section, reading and computing: "
    )
    each = [f"*{name}* {minutes(m + run.get(name, 0) / 60)}" for name, m in read.items() if name != OPENING]
    return textwrap.fill(line + ", ".join(each) + ".", 128, break_long_words=False, break_on_hyphens=False)


def of_all():
    about = json.loads(MEASURED.read_text(encoding="utf-8"))
    rows = ["| lesson | stated | reading | computing | peak memory |", "|---|---|---|---|---|"]
    sums = [0, 0.0, 0.0]
    for number, path in lessons().items():
        read, seconds = sum(reading(path).values()), sum(running(number).values())
        rows.append(
            f"| {number} | {stated(path)} min | {read:.0f} min | {seconds:.0f} s | {memory(about['lessons'][number])} |"
        )
        sums = [a + b for a, b in zip(sums, (stated(path), read, seconds), strict=True)]
    rows.append(f"| all | {sums[0] / 60:.0f} h | {sums[1] / 60:.1f} h | {sums[2] / 60:.0f} min | |")
    load = max(lesson["load"] for lesson in about["lessons"].values())
    how = (
        f"Measured on {about['date']} on {about['cores']} cores with a load of up to {load:.0f}, TensorFlow's threads: "
        f"{about['threads']}, each lesson in a kernel of its own. A machine that does nothing else is faster."
    )
    return "\n".join([*rows, "", textwrap.fill(how, 128)])


def memory(measured):
    return (
        f"{math.ceil(measured['peak_mb'] / 100) / 10:.1f} GB"  # rounded up: it is a question of having enough
    )


def of_marks():
    rows = [
        "| lesson | exercises | of these code, prediction, words | points by program | points by hand | minutes |",
        "|---|---|---|---|---|---|",
    ]
    sums = [0, 0, 0, 0]
    for number, about in marked().items():
        kinds = [kind for _, kind in about["points"].values()]
        by_hand = sum(p for p, kind in about["points"].values() if kind == "words")
        by_program = sum(p for p, _ in about["points"].values()) - by_hand
        split = ", ".join(str(kinds.count(kind)) for kind in ("code", "prediction", "words"))
        rows.append(f"| {number} | {len(kinds)} | {split} | {by_program} | {by_hand} | {about['minutes']} |")
        sums = [a + b for a, b in zip(sums, (len(kinds), by_program, by_hand, about["minutes"]), strict=True)]
    rows.append(f"| all | {sums[0]} | | {sums[1]} | {sums[2]} | {sums[3]} |")
    return "\n".join(rows)


def of_a_week(row):
    """A row `| 3 | 02, 03 | … | 5 h 10 min | 30 |` with its last two cells computed: hours, and points handed in."""
    week, numbers, *middle, _, _ = [cell.strip() for cell in row.strip("|").split("|")]
    exercises, total, points = marked(), 0, 0
    for number in re.findall(r"\b\d\d\b", numbers):
        about = exercises.get(number, {"minutes": 0, "points": {}})
        total += stated(lessons()[number]) + about["minutes"]
        points += sum(p for p, _ in about["points"].values())
    last = f"{total // 60} h {total % 60:02d} min", str(points or "–")
    return f"| {' | '.join([week, numbers, *middle, *last])} |"


def filled(text):
    """The guide with every table between its markers as it should be."""
    blocks = {"all": of_all, "marks": of_marks, **{n: lambda n=n: of_a_lesson(n) for n in lessons()}}

    def fill(match):
        return f"<!-- computed: {match[1]} -->\n{blocks[match[1]]()}\n<!-- end -->"

    text = re.sub(r"<!-- computed: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.S)
    return re.sub(
        r"^\| \d+ \| \d\d.*\|$(?=(?:\n\|.*)*\n\n<!-- weeks -->)", lambda m: of_a_week(m[0]), text, flags=re.M
    )


# --- measuring


def measure(number):
    """Run a lesson in a kernel of its own: seconds by section, and the kernel's peak memory in MB."""
    import nbformat
    from nbclient import NotebookClient

    path = lessons()[number]
    notebook = nbformat.read(path, as_version=4)
    where = {i: section for section, i, _ in sections(path)}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(LESSONS)}})
    seconds = {}
    with client.setup_kernel(env=os.environ | {"ADVLIB_PROGRESS": "0"}):
        for i, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                start = time.monotonic()
                client.execute_cell(cell, i)
                seconds[where[i]] = seconds.get(where[i], 0) + time.monotonic() - start
        # not getrusage, whose peak can be that of the process which started the kernel
        ask = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        last = nbformat.v4.new_code_cell(ask)
        notebook.cells.append(last)
        client.execute_cell(last, len(notebook.cells) - 1)
    return {
        "seconds": {k: round(v, 1) for k, v in seconds.items()},
        "peak_mb": round(int(last.outputs[0].text) / 1024),
        "load": round(os.getloadavg()[0], 1),
    }


def measure_all(numbers):
    about = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {"lessons": {}}
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "all")
    for number in numbers or lessons():
        about["lessons"][number] = measure(number)
        about |= {"date": date.today().isoformat(), "threads": threads, "cores": os.cpu_count()}
        about["lessons"] = dict(sorted(about["lessons"].items()))
        MEASURED.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        found = about["lessons"][number]
        print(f"{number}: {sum(found['seconds'].values()):.0f} s, {found['peak_mb']} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into teaching/guide.md")
    parser.add_argument("--measure", nargs="*", metavar="NN", help="run these lessons, or all")
    options = parser.parse_args()
    if options.measure is not None:
        measure_all(options.measure)
        return
    text = GUIDE.read_text(encoding="utf-8")
    new = filled(text)
    if options.write:
        GUIDE.write_text(new, encoding="utf-8")
    elif new != text:
        sys.exit("teaching/guide.md is not what the notebooks say: run python tools/minutes.py --write")


if __name__ == "__main__":
    main()
