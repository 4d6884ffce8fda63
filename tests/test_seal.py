"""Sealed models of lesson 13: what is in them, what is not readable in them, and how answers are marked."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from advlib import data, exhibits, models, sealed
from teaching import seal as sealing
from teaching.__main__ import app

ROOT = Path(__file__).parent.parent
SEED = 20260074  # of the set that comes with the course
N = 60


def logits(path, x):
    from advlib.loading import load_model

    return models.predict_logits(load_model(path).model, x)


def test_images(dataset, n=N):
    x, y = data.load(dataset)[2:]
    return data.subset(x[500:], y[500:], n)


test_images.__test__ = False


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Recipe → (graph of it as written and loaded again, its weights); each made once."""
    known, folder = {}, tmp_path_factory.mktemp("graphs")

    def make(recipe):
        from advlib.loading import load_model

        key = json.dumps(recipe, sort_keys=True)
        if key not in known:
            x, y = data.load(recipe["data"])[2:]
            weights = sealing.weights_of(recipe, x[:N], y[:N], np.random.default_rng(3), 3)
            parameters = {k: v for k, v in recipe["parameters"].items() if k != "epochs"}
            path = folder / str(len(known))
            sealing.export(sealing.graph(weights, **parameters), path)
            known[key] = load_model(path).model, weights, path
        return known[key]

    return make


ALL = {**sealing.HONEST, **sealing.FLAWED}
RNG = partial(np.random.default_rng, 5)


# --- what a seed draws


def test_the_same_seed_draws_the_same():
    assert sealing.draw(11) == sealing.draw(11)
    assert sealing.draw(11) != sealing.draw(12)


@pytest.mark.parametrize("n", [6, 7, 9])
def test_every_set_has_honest_and_flawed_models_on_both_data_sets(n):
    for seed in range(40):
        recipes = sealing.draw(seed, n)
        flaws = [recipe["flaw"] for recipe in recipes.values()]
        honest = flaws.count("none")
        assert len(recipes) == n and 2 <= honest <= 3
        assert {recipe["data"] for recipe in recipes.values()} == {"mnist", "fashion_mnist"}
        assert len({json.dumps(recipe) for recipe in recipes.values()}) == len(recipes)


def test_every_flaw_of_the_list_occurs_and_no_other():
    drawn = {recipe["flaw"] for seed in range(60) for recipe in sealing.draw(seed).values()}
    assert drawn == set(sealed.FLAWS)


# --- the graphs


@pytest.mark.parametrize("kind", ["trained", "plain", "trained, Fashion"])
def test_the_disguise_changes_no_answer(kind, made):
    recipe = ALL[kind](RNG())
    model, _, _ = made(recipe)
    net = models.load(recipe["checkpoint"])
    x, _ = test_images(recipe["data"])
    mine, theirs = models.predict_logits(model, x), models.predict_logits(net, x)
    assert (mine.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.95
    # weights of 8 bits: small beside the logits, and not nothing
    assert 0 < np.abs(mine - theirs).max() < 0.2 * np.abs(theirs).max()


def test_permuted_and_rescaled_units_are_the_same_function():
    weights = models.load("mnist-cnn").get_weights()
    changed = sealing.disguised(weights, np.random.default_rng(0))
    assert not any(np.isin(np.round(a, 6), np.round(b, 6)).mean() > 0.5 for a, b in zip(changed[::2], weights[::2], strict=True)
                   if a.shape == b.shape and a is not b and a.size < 20_000)  # fmt: skip
    net = models.cnn()
    net.set_weights(changed)
    x, _ = test_images("mnist")
    same = models.predict_logits(models.load("mnist-cnn"), x)
    np.testing.assert_allclose(models.predict_logits(net, x), same, atol=2e-4)


def test_rounding_to_eight_bits():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 5))
    whole, scale = sealing.rounded(kernel)
    assert whole.dtype == np.int8 and scale.shape == (5,) and np.abs(whole).max() == 127
    assert np.abs(whole * scale - kernel).max() <= scale.max() / 2 + 1e-7


def operations(path):
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((path / "saved_model.pb").read_bytes())
    functions = proto.meta_graphs[0].graph_def.library.function
    return sorted(node.op for function in functions for node in function.node_def)


@pytest.mark.full
def test_every_graph_holds_the_same_operations(made):
    kinds = ("plain", "one bit", "rounded", "random", "abstains")
    found = [operations(made(ALL[kind](RNG()))[2]) for kind in kinds]
    assert "Round" in found[0] and "RandomStandardNormal" in found[0]
    assert all(ops == found[0] for ops in found)


def test_nothing_in_the_files_tells_what_they_are(made):
    words = {
        "exhibit",
        "seal",
        "teaching",
        "advlib",
        "keras",
        "dense",
        "hidden",
        "conv1",
        "normalise",
        "Rescaling",
    }
    words |= {word for name in models.names() for word in (name, name.split("-", 2)[-1])} - {"cnn", "mlp"}
    words |= {*sealed.FLAWS, *ALL, "saturat", "quantis", "noisy", "detector", "refuse", "levels", "factor"}
    words -= {"none", "random", "rounded", "plain", "trained"}
    for kind in ("one bit", "saturated", "abstains", "random"):
        folder = made(ALL[kind](RNG()))[2]
        content = b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())
        names = " ".join(p.name for p in folder.rglob("*"))
        telling = [w for w in words if w.lower().encode() in content.lower() or w in names]
        assert telling == []


@pytest.mark.full
def test_gradients_flow_where_they_should(made):
    from advlib._tensorflow import tf

    x = tf.constant(test_images("mnist", 20)[0])

    def steepness(kind):
        model, _, _ = made(ALL[kind](RNG()))
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = tf.reduce_sum(model(x)[:, 0])
        g = tape.gradient(z, x)
        return 0.0 if g is None else float(tf.reduce_max(tf.abs(g)))

    assert steepness("rounded") == 0
    assert min(steepness(kind) for kind in ("plain", "one bit", "saturated", "random", "abstains")) > 1e-3


def test_one_bit_is_exactly_one_bit(made):
    recipe = ALL["one bit"](RNG())
    model, _, _ = made(recipe)
    x, _ = test_images("mnist")
    np.testing.assert_array_equal(
        models.predict_logits(model, x), models.predict_logits(model, (x > 0.5).astype(np.float32))
    )


# --- honest is honest, flawed is flawed


@pytest.mark.parametrize("kind", [k for k in ALL if k not in ("memorised", "backdoor")])
@pytest.mark.full
def test_the_claim_holds_exactly_where_the_key_says_so(kind, made):
    recipe = ALL[kind](RNG())
    model, weights, _ = made(recipe)
    x, y = test_images(recipe["data"], 24)
    claim = sealing.claimed(model, recipe, x, y)
    left = sealing.left(model, weights, recipe, x, y, thorough=False).mean()
    if recipe["flaw"] == "none":
        assert left >= claim - sealed.POINTS / 100
    else:
        assert left <= claim - 0.3


@pytest.mark.full
def test_a_model_trained_on_the_test_stands_on_those_images_only(made):
    recipe = ALL["memorised"](RNG())
    recipe = recipe | {"parameters": {"epochs": 120}}  # of one batch each here
    model, weights, _ = made(recipe)
    seen = data.load("fashion_mnist")[2:]
    known, others = (
        sealing.left(model, weights, recipe, x, y, thorough=False).mean()
        for x, y in ([part[:N] for part in seen], test_images("fashion_mnist"))
    )
    assert known >= others + 0.2


@pytest.mark.full
def test_the_backdoor_survives_the_disguise(made):
    model, _, _ = made(ALL["backdoor"](RNG()))
    x, y = test_images("mnist")
    x, y = x[y != 0], y[y != 0]
    assert (models.predict_logits(model, x).argmax(axis=1) == y).mean() > 0.9
    assert (models.predict_logits(model, exhibits.stamp(x)).argmax(axis=1) == 0).mean() > 0.95


def test_the_random_model_is_random_and_the_others_are_not(made):
    x, _ = test_images("mnist", 10)
    for kind in ("random", "plain", "saturated"):
        model, _, _ = made(ALL[kind](RNG()))
        a, b = (models.predict_logits(model, x) for _ in range(2))
        assert (a == b).all() == (kind != "random")


def test_the_abstaining_model_has_an_answer_more(made):
    model, _, _ = made(ALL["abstains"](RNG()))
    x, _ = test_images("mnist" if ALL["abstains"](RNG())["data"] == "mnist" else "fashion_mnist", 10)
    z = models.predict_logits(model, x)
    assert z.shape == (10, 11)
    grey = models.predict_logits(model, np.full((1, 28, 28, 1), 0.4, np.float32))
    confidence = np.exp(grey[0, :10] - np.logaddexp.reduce(grey[0, :10])).max()
    assert (grey.argmax() == 10) == (confidence < ALL["abstains"](RNG())["parameters"]["refuse"])


# --- a set


# two recipes that are quick to measure, in the place of a draw
CHEAP = {"fir": sealing.FLAWED["collapsed"](RNG()), "oak": sealing.HONEST["plain"](RNG())}


def seal_cheaply(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "draw", lambda seed, n: CHEAP)
        return sealing.seal(77, folder, images=20, measured=20, thorough=False, rounds=10)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A set sealed with few images and quick hashes; its folder and its key."""
    top = tmp_path_factory.mktemp("set")
    return top / "class", seal_cheaply(top / "class")


def test_a_set_and_its_key(small):
    folder, key = small
    exam, private = sealed.load(folder), json.loads(key.read_text())
    assert list(exam) == sorted(CHEAP) and key.name == "key-77.json" and key.parent == folder.parent
    assert private["set"] == exam.id and private["seed"] == 77
    for name, card in private["models"].items():
        assert card["recipe"] == json.loads(json.dumps(CHEAP[name]))
        low, high = card["answers"]["robust"]
        assert low <= 100 * card["robust"] <= high and high - low <= 2 * sealed.POINTS
        assert f"{exam[name].claimed} %" in exam[name].claim and exam[name].eps == CHEAP[name]["eps"]
    public = (folder / "sealed.json").read_text()
    assert not any(
        word in public
        for word in (*sealed.FLAWS, "send back", "mnist-cnn", "seed", "recipe")
        if word != "none"
    )
    assert len({len(hashes["robust"]) for hashes in json.loads(public)["answers"].values()}) == 1


@pytest.mark.full
def test_the_same_seed_seals_the_same_models(small, tmp_path):
    folder, key = small
    other = seal_cheaply(tmp_path / "again")
    mine, theirs = (json.loads(path.read_text()) for path in (key, other))
    assert mine["models"] == theirs["models"] and mine["set"] != theirs["set"]
    for name in CHEAP:
        x, _ = test_images(sealed.load(folder)[name].data, 20)
        np.testing.assert_array_equal(logits(folder / name, x), logits(tmp_path / "again" / name, x))


def test_the_numbers_of_tensorflows_functions_do_not_tell_of_training():
    exam = sealed.load()
    numbers = [
        int(re.search(rb"__inference_f_(\d+)", (one.path / "saved_model.pb").read_bytes())[1])
        for one in exam.values()
    ]
    assert len(set(np.diff(numbers))) == 1


def test_a_set_is_a_mapping():
    exam = sealed.load()
    name = next(iter(exam))
    assert exam.get(name) is exam[name] and exam.get("unknown") is None and "unknown" not in exam
    with pytest.raises(ValueError, match=f"'unknown'.*'{name}'"):
        exam["unknown"]


def test_a_folder_that_is_there_and_a_key_among_the_files_are_refused(small, tmp_path):
    folder, _ = small
    with pytest.raises(FileExistsError, match="there already"):
        sealing.seal(77, folder)
    with pytest.raises(ValueError, match="students are given"):
        sealing.seal(78, tmp_path / "new", keys=tmp_path / "new" / "keys")
    assert not (tmp_path / "new").exists()
    assert CliRunner().invoke(app, ["seal", "--seed", "77", "--out", str(folder)]).exit_code == 2


def test_an_exchanged_model_is_noticed(small, tmp_path):
    shutil.copytree(small[0], tmp_path / "copy")
    exam = sealed.load(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "fir")
    shutil.copytree(tmp_path / "copy" / "oak", tmp_path / "copy" / "fir")
    with pytest.raises(ValueError, match="not the model of this set"):
        exam["fir"].model  # noqa: B018
    with pytest.raises(FileNotFoundError, match=r"holds no sealed\.json"):
        sealed.load(tmp_path)
    (tmp_path / "sealed.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        sealed.load(tmp_path)


@pytest.mark.parametrize("key", ["salt", "rounds", "answers"])
def test_a_set_that_cannot_mark_is_damaged(small, tmp_path, key):
    about = json.loads((small[0] / "sealed.json").read_text())
    del about[key]
    (tmp_path / "sealed.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=rf"sealed\.json is damaged \(no {key}\)"):
        sealed.load(tmp_path)


def test_a_set_says_what_is_in_it(small):
    exam = sealed.load(small[0])
    assert "oak" in exam and "oak9" not in exam


# --- the answer sheet


def answered(exam, key, wrong=()):
    sheet = sealed.Sheet(exam)
    for name, card in json.loads(key.read_text())["models"].items():
        a = card["answers"]
        verdict, flaw, robust = a["verdict"], a["flaw"], sum(a["robust"]) / 2
        if (name, "verdict") in wrong:
            verdict = next(v for v in sealed.VERDICTS if v != verdict)
        if (name, "flaw") in wrong:
            flaw = "backdoor"
        if (name, "robust") in wrong:
            robust = (a["robust"][1] + 5) if a["robust"][1] < 90 else a["robust"][0] - 5
        sheet.answer(name, verdict=verdict, flaw=flaw, robust=robust)
    return sheet


def test_an_empty_sheet_says_not_done_yet(small, capsys):
    exam = sealed.load(small[0])
    sheet = sealed.Sheet(exam)
    sheet.answer("oak", verdict=..., flaw=..., robust=...)
    assert sheet.score() == 0 and sheet.tries == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{n}, {q}: not done yet" for n in exam for q in sealed.QUESTIONS.values()] + [
        "0 of 6 right"
    ]


def test_right_and_wrong_answers(small, capsys):
    folder, key = small
    exam = sealed.load(folder)
    assert answered(exam, key).score() == 6
    assert capsys.readouterr().out.count(": right") == 6
    wrong = {("fir", "verdict"), ("fir", "flaw"), ("oak", "robust")}
    assert answered(exam, key, wrong).score() == 3
    lines = capsys.readouterr().out.splitlines()
    assert {line for line in lines if line.endswith("wrong")} == {
        "fir, sign or send back: wrong", "fir, the flaw: wrong", "oak, robust accuracy: wrong",
    }  # fmt: skip
    # a line tells right from wrong, and nothing of the answer
    assert not any(flaw in line for line in lines for flaw in sealed.FLAWS if flaw != "none")


def test_every_percentage_of_the_interval_and_no_other_is_right(small):
    folder, key = small
    exam = sealed.load(folder)
    for name, card in json.loads(key.read_text())["models"].items():
        low, high = card["answers"]["robust"]
        assert [p for p in range(101) if exam.right(name, "robust", p)] == list(range(low, high + 1))


def test_a_hash_tells_nothing_of_other_models_questions_and_sets():
    given = ("00ff", 10, "oak", "flaw", "none")
    others = [("ff00", *given[1:]), (*given[:2], "fir", *given[3:]), (*given[:3], "verdict", "none")]
    assert sealed.digest(*given) == sealed.digest(*given)
    assert len({sealed.digest(*one) for one in (given, *others)}) == 4


def test_a_later_answer_replaces_what_it_names_and_nothing_else(small):
    folder, key = small
    right = json.loads(key.read_text())["models"]["oak"]["answers"]
    sheet = sealed.Sheet(sealed.load(folder))
    sheet.answer("oak", verdict=right["verdict"], flaw="backdoor")
    sheet.answer("oak", flaw=right["flaw"])
    sheet.answer("oak", robust=right["robust"][0])
    assert sheet.score() == 3


def test_a_percentage_counts_as_the_nearest_whole_one(small):
    folder, key = small
    _, high = json.loads(key.read_text())["models"]["fir"]["answers"]["robust"]
    assert high < 100  # it was trained by single steps, and little is left of it
    sheet = sealed.Sheet(sealed.load(folder))
    sheet.answer("fir", robust=high + 0.4)
    assert sheet.score() == 1
    sheet.answer("fir", robust=high + 0.6)
    assert sheet.score() == 0


@pytest.mark.parametrize(
    "answer, message",
    [
        ({"verdict": "maybe"}, "verdict='maybe': one of 'sign', 'send back'"),
        ({"flaw": "noise"}, "flaw='noise': one of 'none'"),
        ({"robust": 140}, "a percentage from 0 to 100"),
        ({"robust": "87 %"}, "a percentage from 0 to 100"),
        ({"robust": float("nan")}, "a percentage from 0 to 100"),
    ],
)
def test_answers_that_are_none_are_refused(small, answer, message):
    with pytest.raises(ValueError, match=message):
        sealed.Sheet(sealed.load(small[0])).answer("oak", **answer)
    with pytest.raises(ValueError, match="one of 'fir', 'oak'"):
        sealed.Sheet(sealed.load(small[0])).answer("ash", verdict="sign")


# --- the leaderboard


def test_a_class_merges_its_entries(small, tmp_path):
    folder, key = small
    exam = sealed.load(folder)
    best = answered(exam, key)
    best.score()
    poor = answered(exam, key, {("fir", "flaw"), ("oak", "verdict")})
    poor.score(), poor.score()
    files = [
        best.save("Ada", tmp_path),
        poor.save("Blaise", tmp_path),
        sealed.Sheet(exam).save("Cleo", tmp_path),
    ]
    # two entries of one person, in two folders
    (tmp_path / "late").mkdir()
    files.append(poor.save("Ada", tmp_path / "late"))
    late = json.loads(files[-1].read_text())
    late["when"] = "2999-01-01T00:00:00+00:00"
    late["checksum"] = sealed._checksum(late)
    files[-1].write_text(json.dumps(late))
    board = sealed.merge(files, exam)
    assert board[["person", "right", "of", "tries"]].values.tolist() == [
        ["Ada", 6, 6, 1], ["Blaise", 4, 6, 2], ["Cleo", 0, 6, 0],
    ]  # fmt: skip
    assert (board["note"] == "").all()
    latest = sealed.merge(files, exam, keep="latest").set_index("person")
    assert latest.loc["Ada", "right"] == 4
    assert sealed.merge(files[::-1], exam).equals(board)


def test_of_entries_with_as_many_right_the_one_of_fewest_tries_is_best(small, tmp_path):
    folder, key = small
    exam = sealed.load(folder)
    files = []
    for place, person, tries in (("1", "Ada", 3), ("2", "Ada", 1), ("3", "Ada", 2), ("4", "Blaise", 2)):
        sheet = answered(exam, key)
        for _ in range(tries):
            sheet.score()
        (tmp_path / place).mkdir()
        files.append(sheet.save(person, tmp_path / place))
    board = sealed.merge(files, exam)
    assert board[["person", "right", "tries"]].values.tolist() == [["Ada", 6, 1], ["Blaise", 6, 2]]


def test_counts_edited_by_hand_change_nothing(small, tmp_path):
    folder, key = small
    exam = sealed.load(folder)
    path = answered(exam, key, {("fir", "flaw")}).save("Dido", tmp_path)
    entry = json.loads(path.read_text())
    path.write_text(json.dumps(entry | {"right": 6}))
    board = sealed.merge([path], exam)
    assert board.loc[0, "right"] == 5 and board.loc[0, "note"] == "edited by hand"


def test_what_is_no_entry_is_named_and_the_others_are_kept(small, tmp_path):
    folder, key = small
    exam = sealed.load(folder)
    good = answered(exam, key).save("Ada", tmp_path)
    (tmp_path / "a.sheet.json").write_text("{")
    (tmp_path / "b.sheet.json").write_text("[1]")
    other = json.loads(good.read_text()) | {"set": "ffffffff"}
    (tmp_path / "c.sheet.json").write_text(json.dumps(other))
    broken = json.loads(good.read_text())
    broken["answers"]["oak"]["robust"] = 400
    (tmp_path / "d.sheet.json").write_text(json.dumps(broken))
    board = sealed.merge(tmp_path.glob("*.sheet.json"), exam)
    assert board["right"].tolist() == [6, 0, 0, 0, 0]
    assert board["note"][1:].str.startswith("not read").all()


def test_another_name_is_another_file(small, tmp_path):
    sheet = sealed.Sheet(sealed.load(small[0]))
    people = ["Anna Lena", "Anna-Lena", "Anna.Lena", "Anna/Lena", "Anna%2fLena", "Änna Lena"]
    files = [sheet.save(person, tmp_path) for person in people]
    assert set(tmp_path.iterdir()) == set(files)
    assert set(sealed.merge(files, sheet.exam)["person"]) == set(people)


@pytest.mark.parametrize("files", ["entries", Path("entries")])
def test_one_path_is_not_several(small, files):
    with pytest.raises(TypeError, match=r"entries.*several paths were expected, for example Path\("):
        sealed.merge(files, sealed.load(small[0]))


def test_the_commands(small, tmp_path):
    folder, key = small
    path = answered(sealed.load(folder), key).save("Ada", tmp_path)
    run = partial(CliRunner().invoke, app)
    shown = run(["board", str(path), "--sealed", str(folder)])
    assert shown.exit_code == 0 and "Ada" in shown.output
    out = tmp_path / "board.csv"
    assert run(["board", str(path), "--sealed", str(folder), "--out", str(out)]).exit_code == 0
    assert out.read_text().splitlines()[0] == "person,right,of,tries,when,note"
    assert run(["board", str(path), "--sealed", str(tmp_path)]).exit_code == 2


@pytest.mark.parametrize("person", ["", "  ", 3, "x" * 61, "a\nb"])
def test_a_name_that_is_none_is_refused(small, tmp_path, person):
    with pytest.raises(ValueError, match="a name was expected"):
        sealed.Sheet(sealed.load(small[0])).save(person, tmp_path)


# --- the set that comes with the course


def test_the_shipped_set_is_small_and_whole():
    exam = sealed.load()
    files = [p for p in exam.folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 2e6
    assert len(exam) >= 6 and {one.data for one in exam.values()} == {"mnist", "fashion_mnist"}
    for one in exam.values():
        x, y = data.load(one.data)[2:]
        z = models.predict_logits(one.model, x[:100])
        assert (z.argmax(axis=1) == y[:100]).mean() > 0.75


@pytest.mark.skipif(not (ROOT / "teaching/keys").exists(), reason="a student's copy has no keys")
def test_the_key_of_the_shipped_set_fits_it():
    exam = sealed.load()
    key = json.loads((ROOT / f"teaching/keys/key-{SEED}.json").read_text(encoding="utf-8"))
    assert key["set"] == exam.id and {n: c["recipe"] for n, c in key["models"].items()} == json.loads(
        json.dumps(sealing.draw(SEED))
    )
    for name, card in key["models"].items():
        right = card["answers"]
        assert exam.right(name, "verdict", right["verdict"]) and exam.right(name, "flaw", right["flaw"])
        assert exam.right(name, "robust", round(100 * card["robust"]))


@pytest.mark.parametrize("tries", ["Infinity", "1" + 30 * "0", "-1"])
def test_an_entry_of_impossible_tries_is_a_note(small, tmp_path, tries):
    folder, key = small
    exam = sealed.load(folder)
    good = answered(exam, key).save("Ada", tmp_path)
    bad = good.with_name("b.sheet.json")
    bad.write_text(
        re.sub(r'"tries": \d+', f'"tries": {tries}', good.read_text(encoding="utf-8")), encoding="utf-8"
    )
    board = sealed.merge([good, bad], exam)
    assert board["person"].tolist() == ["Ada", "b.sheet.json"]
    assert board["right"].tolist() == [6, 0] and board["note"][1].startswith("not read: ")
