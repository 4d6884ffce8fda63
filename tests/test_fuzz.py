"""Damaged files of every kind that advlib reads: a documented error or a whole result, and never code that runs.

`ADVLIB_FUZZ` sets the number of cases for each reader; 200 for ten readers make 2,000 for every change.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import advlib
import advlib.training.adversarial_fit
from advlib import auditing, data, loading, models, nbplugin, sealed, training
from advlib.robustness import Report

adversarial_fit = sys.modules["advlib.training.adversarial_fit"]  # the module, whose name is its function's
ROOT = Path(__file__).resolve().parent.parent
CASES = int(os.environ.get("ADVLIB_FUZZ", 200))
MARK = Path(tempfile.gettempdir(), f"advlib-fuzz-{os.getpid()}")


class Harmful:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self):
        return Path.touch, (MARK,)


# --- ways to damage a file: (bytes, numbers to draw from) → bytes


def truncated(content, draw):
    return content[: draw(st.integers(0, max(0, len(content) - 1)))]


def flipped(content, draw):
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    return bytes(content)


def swapped(content, draw):
    """Two stretches change places."""
    a, b = sorted(draw(st.integers(0, len(content))) for _ in range(2))
    c = draw(st.integers(b, len(content)))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def doubled(content, draw):
    return content[: draw(st.integers(0, len(content)))] + content


def replaced(content, draw):
    return draw(st.binary(max_size=200))


def huge(content, draw):
    """A member whose header promises an array of terabytes, in place of the first one of that archive."""

    def change(name, raw):
        header, about = io.BytesIO(), {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(header, about)
        return header.getvalue()

    return one_member(content, draw, change)


def harmful(content, draw):
    """A member that is a pickled object."""
    return one_member(content, draw, lambda name, raw: pickled_array())


def raw_pickle(content, draw):
    return pickle.dumps(Harmful())


def pickled_array():
    file = io.BytesIO()
    array = np.empty(1, dtype=object)
    array[0] = Harmful()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def one_member(content, draw, change):
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return flipped(content, draw)
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    members[name] = change(name, members[name])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for member, raw in members.items():
            new.writestr(member, raw)
    return file.getvalue()


def other_json(content, draw):
    """Valid JSON of another kind, or this one with a value of another kind somewhere."""
    strange = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({})
    try:
        found = json.loads(content)
    except ValueError:
        return flipped(content, draw)
    place, key = found, None
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key, parent = draw(st.sampled_from(keys)), place
        place = place[key]
        if draw(st.booleans()):
            break
    if key is None or draw(st.integers(0, 9)) == 0:
        return json.dumps(draw(strange)).encode()
    parent[key] = draw(strange)
    return json.dumps(found).encode()


DAMAGES = (truncated, flipped, swapped, doubled, replaced, huge, harmful, raw_pickle, other_json)


# --- the readers


def small_images():
    rng = np.random.default_rng(0)
    return rng.random((6, 8, 8, 1), dtype=np.float32), np.arange(6) % 3


def packed(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def linear():
    return models.linear(shape=(8, 8, 1), classes=3)


def bundled_data(folder):
    """A data set as the course ships it: every array has its SHA-256."""
    arrays = {"x": np.arange(192, dtype=np.uint8).reshape(3, 8, 8), "y": np.arange(3, dtype=np.uint8)}
    (folder / "set.npz").write_bytes(packed(**arrays))
    digests = {name: hashlib.sha256(array).hexdigest() for name, array in arrays.items()}
    shapes = {name: array.shape for name, array in arrays.items()}

    def read():
        found = data.read(folder / "set.npz", digests, shapes)
        return [found[name].tolist() for name in arrays]

    return ["set.npz"], read, data.DataError, True


def checkpoint(folder):
    """Weights and card of a shipped network."""
    about = {
        "name": "toy",
        "architecture": "linear",
        "arguments": {"shape": [8, 8, 1], "classes": 3},
        "measured": {},
    }
    x, _ = small_images()
    with shipped_in(folder):
        models.save(linear(), "toy", about)

    def read():
        with shipped_in(folder):
            return models.predict_logits(models.load("toy"), x).tolist()

    return ["toy.npz", "toy.json"], read, ValueError, True


@contextlib.contextmanager
def shipped_in(folder):
    before, models.FOLDER = models.FOLDER, folder
    try:
        yield
    finally:
        models.FOLDER = before


def report(folder):
    """A Report with its images."""
    x, y = small_images()
    advlib.evaluate(linear(), x, y, {"FGSM": partial(advlib.fgsm, eps=0.1)}, norm="linf", eps=0.1).save(
        folder / "r.npz"
    )

    def read():
        found = Report.load(folder / "r.npz")
        return found.to_json() if hasattr(found, "to_json") else found

    return ["r.npz"], read, ValueError, True


def audit_report(folder):
    """report.json, which anybody may have edited."""
    x, y = small_images()
    found = advlib.audit(linear(), x, y, norm="linf", eps=0.1, preset="quick")
    (folder / "report.json").write_text(found.to_json(), encoding="utf-8")

    def read():
        return auditing.AuditReport.from_json((folder / "report.json").read_text(encoding="utf-8")).n

    return ["report.json"], read, ValueError, False


def units(folder):
    """The work of an audit that was interrupted: a damaged unit counts as none, and is computed again."""
    x, y = small_images()
    settings = {"norm": "linf", "eps": 0.1, "preset": "quick", "folder": folder}

    def interrupt(done, *_):
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        advlib.audit(linear(), x, y, **settings, progress=interrupt)
    unit = next(path for path in sorted((folder / "work").glob("*.npz")))
    run = json.loads((folder / "work" / "run.json").read_text(encoding="utf-8"))

    def read():
        found = auditing.Store(folder, run, True).read(unit.stem)
        return None if found is None else [found.prediction.tolist(), found.size.tolist()]

    return [f"work/{unit.name}", "work/run.json"], read, ValueError, None


def users_images(folder):
    """Images and labels from a stranger."""
    x, y = small_images()
    (folder / "mine.npz").write_bytes(packed(x=np.uint8(255 * x), y=y))

    def read():
        found = loading.load_data(folder / "mine.npz")
        x = found.x[:]
        assert x.dtype == np.float32 and x.ndim == 4 and len(x) == len(found.y)
        assert x.min() >= 0 and x.max() <= 1
        return len(x)

    return ["mine.npz"], read, loading.LoadError, False


def users_model(folder):
    """A .keras file from a stranger."""
    linear().save(folder / "mine.keras")
    x, _ = small_images()

    def read():
        return len(models.predict_logits(loading.load_model(folder / "mine.keras").model, x))

    return ["mine.keras"], read, ValueError, False


def sealed_models(folder):
    """The list of sealed models and an entry for the leaderboard, which is marked again or is a row with a note."""
    shutil.copy(sealed.SHIPPED / "sealed.json", folder)
    exam = sealed.load(folder)
    sheet = sealed.Sheet(exam)
    sheet.answer(next(iter(exam)), verdict="sign")
    entry = sheet.save("Ada", folder).name

    def read():
        exam = sealed.load(folder)
        table = sealed.merge([folder / entry], exam)
        assert 0 <= table["right"][0] <= 1
        return len(table)

    return ["sealed.json", entry], read, ValueError, False


def training_state(folder):
    """Where an adversarial training goes on."""
    x, y = small_images()
    kept = []

    class Kept(adversarial_fit.Resume):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversarial_fit, "Resume", Kept)
        trainer = training.PGD(linear(), eps=0.1, steps=1)
        training.adversarial_fit(trainer, x, y, validation=(x, y), epochs=1, batch_size=6, folder=folder)

    def read():
        if kept[0].load() == 0:
            return None  # no file: begins anew
        return [w.tolist() for w in trainer.network.get_weights()]

    return ["state.npz"], read, ValueError, True


def notebook(folder):
    """A lesson as any editor stored it."""
    lesson = sorted((ROOT / "notebooks").glob("00_*.ipynb"))[0]
    shutil.copy(lesson, folder / "lesson.ipynb")

    def read():
        return len(nbplugin.normalised((folder / "lesson.ipynb").read_text(encoding="utf-8")))

    return ["lesson.ipynb"], read, ValueError, False


READERS = [
    bundled_data, checkpoint, report, audit_report, units, users_images, users_model, sealed_models, training_state, notebook,
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(request, tmp_path_factory):
    """(folder, names of its files, read, documented error, exact, what the undamaged files say)."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    names, read, error, exact = request.param(folder)
    return folder, {name: (folder / name).read_bytes() for name in names}, read, error, exact, read()


@pytest.mark.parametrize("whole", READERS, indirect=True, ids=lambda reader: reader.__name__)
def test_damage_is_a_documented_error_or_makes_no_difference(whole):
    folder, files, read, error, exact, expected = whole
    outcomes = Counter()

    @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(0)
    @given(name=st.sampled_from(sorted(files)), damage=st.sampled_from(DAMAGES), more=st.data())
    def one(name, damage, more):
        (folder / name).write_bytes(damage(files[name], more.draw))
        try:
            found = read()
        except error as problem:
            outcomes["refused"] += 1
            assert str(problem).strip()
        else:
            outcomes["read"] += 1
            assert not exact or found == expected
            if exact is None:
                assert found in (None, expected)
        finally:
            (folder / name).write_bytes(files[name])
        assert not MARK.exists(), "a pickled object was executed"

    one()
    assert sum(outcomes.values()) >= CASES and (outcomes["refused"] or exact is None)
    assert read() == expected


@pytest.mark.parametrize("whole", READERS, indirect=True, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("kind", ["a folder", "a link to itself", "a link to nothing"])
def test_what_is_no_file_is_a_documented_error(whole, kind):
    folder, files, read, error, _exact, expected = whole
    for name, content in files.items():
        path = folder / name
        path.unlink()
        if kind == "a folder":
            path.mkdir()
        else:
            try:
                path.symlink_to(path if kind == "a link to itself" else folder / "nowhere")
            except OSError:  # Windows without the right to make links
                path.write_bytes(content)
                pytest.skip("no symbolic links here")
        try:
            found = read()
        except (error, OSError) as problem:
            assert str(problem).strip()
        else:
            assert found in (None, expected)
        finally:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            path.write_bytes(content)


def test_the_harm_is_real():
    """The object that none of the above unpickled does what they look for."""
    with contextlib.suppress(Exception):
        np.load(io.BytesIO(pickled_array()), allow_pickle=True)
    assert MARK.exists()
    MARK.unlink()
