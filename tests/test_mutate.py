"""The catalogue of faults fits the library and covers it, and the runner tells noticed from survived."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import faults  # noqa: E402
import mutate  # noqa: E402

BY_NAME = {fault.name: fault for fault in faults.FAULTS}


def test_every_fault_fits_once_and_leaves_python():
    assert len(BY_NAME) == len(faults.FAULTS)
    for fault in faults.FAULTS:
        assert faults.broken(fault) != faults.text_of(fault.file), fault.name
        compile(faults.broken(fault), fault.name, "exec")
    with pytest.raises(ValueError, match="the patch fits 0 times"):
        faults.broken(faults.Fault("gone", "data.py", "not to be found", "", (), ()))


def test_every_fault_names_files_that_there_are():
    for fault in faults.FAULTS:
        for by in mutate.KINDS:
            files = mutate.likeliest(fault, by)
            assert files and all(file.is_file() for file in files), (fault.name, by)


def test_every_public_function_has_three_faults():
    count = Counter(name for fault in faults.FAULTS for name in set(faults.functions(fault)))
    assert set(count) <= set(faults.public())
    assert {name: count[name] for name in faults.public() if count[name] < 3} == {}
    assert len(faults.FAULTS) >= 120
    programs = [fault.file for fault in faults.FAULTS if not faults.functions(fault)]
    assert all(re.match("cli|exercises|nbplugin", file) for file in programs)


def test_what_is_public_is_what_the_package_says():
    import advlib

    attacks = {name for name, module in advlib._NAMES.items() if module == "attacks"}
    assert {f"attacks.{name}" for name in attacks} <= set(faults.public())
    assert {"losses.dlr", "training.TRADES", "robustness.evaluate", "certify.smoothing.certify"} <= set(
        faults.public()
    )
    parts = {part for whole in faults.PARTS.values() for part in whole.split()}
    assert parts <= {name.rpartition(".")[2] for name in faults._named()}, "PARTS names what is not there"
    assert not {"losses", "norms.column", "data.DataError"} & set(faults.public())


def test_the_likeliest_tests_of_a_file_come_first():
    """Those of the broken function, and of each test one before any second."""
    names = ["box[fgsm]", "box[pgd-l2]", "box[pgd-linf]", "ball[fgsm]", "ball[pgd-l2]"]
    items = [SimpleNamespace(name=name, originalname=name.partition("[")[0]) for name in names]
    mutate.LikeliestFirst(["pgd"]).pytest_collection_modifyitems(items)
    assert [item.name for item in items] == [
        "box[pgd-l2]", "ball[pgd-l2]", "box[pgd-linf]", "box[fgsm]", "ball[fgsm]"
    ]  # fmt: skip


def test_order_and_shards():
    fault = BY_NAME["fgsm-sign"]
    first = mutate.likeliest_first(fault, "notebooks")
    assert [file.name[:2] for file in first[:2]] == ["03", "00"]
    assert sorted(first) == sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    again = mutate.likeliest_first(fault, "notebooks", first[5].name)
    assert again[0] == first[5] and sorted(again) == sorted(first)
    assert ROOT / "tests/test_mutate.py" not in mutate.likeliest_first(fault, "tests")
    parts = [faults.FAULTS[i::3] for i in range(3)]
    assert sum(map(len, parts)) == len(faults.FAULTS) and mutate.part("2/3") == (2, 3)
    with pytest.raises(mutate.argparse.ArgumentTypeError, match="i/n with"):
        mutate.part("4/3")


def result(fault, noticed, by="tests", date="2026-01-01", asked=None):
    asked = asked or [noticed]
    return {
        "noticed": noticed, "seconds": 1, "asked": asked, "commit": "", "date": date,
        "patch": mutate.patch_digest(fault), "against": mutate.against(fault, by, asked),
    }  # fmt: skip


def test_a_stored_result_is_current_until_something_changes():
    fault = BY_NAME["check-inverted"]
    results = {"tests": {fault.name: result(fault, "test_check.py")}, "notebooks": {}, "exercises": {}}
    assert mutate.current(results, fault, "tests") and not mutate.current(results, fault, "notebooks")
    other = faults.Fault(fault.name, fault.file, fault.old, "    if True:\n", fault.lessons, fault.tests)
    assert not mutate.current(results, other, "tests")
    results["tests"][fault.name]["against"] = "as it was before a test changed"
    assert not mutate.current(results, fault, "tests") and mutate.known(results, fault, "tests")
    results["tests"][fault.name] = result(fault, None, asked=["test_check.py"])
    assert not mutate.current(results, fault, "tests"), "a survivor must have been tried against every file"


def test_scores_and_stores(tmp_path):
    first, second = faults.FAULTS[:2]
    empty = mutate.read(tmp_path / "none.json")
    assert (
        mutate.score(empty, "tests") == (0, 0, len(faults.FAULTS)) and mutate.sentence(empty, "tests") is None
    )
    one = empty | {"tests": {first.name: result(first, "test_losses.py")}}
    two = empty | {"tests": {second.name: result(second, None, asked=["test_losses.py"])}}
    for name, results in (("a", one), ("b", two)):
        mutate.write(tmp_path / f"{name}.json", results)
    mutate.merge(tmp_path / "all.json", [tmp_path / "a.json", tmp_path / "b.json"])
    both = mutate.read(tmp_path / "all.json")
    assert mutate.score(both, "tests") == (1, 2, len(faults.FAULTS))
    assert f"survives: {second.name} (losses.cross_entropy)" in mutate.summary(both)
    all_but_one = {fault.name: result(fault, "test_losses.py") for fault in faults.FAULTS}
    all_but_one[second.name] = result(second, None, asked=["test_losses.py"])
    n = len(faults.FAULTS)
    said = f"the tests notice at least {n - 1} of {n} seeded faults"
    assert mutate.sentence({"tests": all_but_one}, "tests") == said, "other tests may notice the survivor"
    every = [file.name for file in mutate.likeliest_first(second, "tests")]
    all_but_one[second.name] = result(second, None, asked=every)
    assert mutate.sentence({"tests": all_but_one}, "tests") == said.replace("at least ", "")


def test_a_change_chooses_its_faults(monkeypatch):
    answers = {"diff": "advlib/check.py\ntests/test_ddn.py", "ls-files": ""}
    monkeypatch.setattr(mutate, "git", lambda *words: answers[words[0]])
    chosen = mutate.changed_faults("HEAD", "tests")
    assert {fault.file for fault in chosen} >= {"check.py", "attacks/ddn.py"}
    assert all(fault.file == "check.py" or "ddn" in fault.tests for fault in chosen)
    assert "check-inverted" in {fault.name for fault in mutate.changed_faults("HEAD", "notebooks")}


def run(*arguments):
    command = [sys.executable, str(ROOT / "tools/mutate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.full
def test_a_fault_is_noticed_and_stored(tmp_path):
    store = tmp_path / "found.json"
    done = run("check-inverted", "--by", "tests", "--store", str(store))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 faults tried are noticed by the tests" in done.stdout
    found = json.loads(store.read_text(encoding="utf-8"))["tests"]["check-inverted"]
    assert found["noticed"] == "test_check.py" and found["date"] and found["commit"]
    again = run("check-inverted", "--by", "tests", "--store", str(store), "--resume")
    assert again.returncode == 0 and "0 of 0 faults tried" in again.stdout


@pytest.mark.full
def test_a_survivor_and_a_broken_run_are_told_apart(tmp_path, monkeypatch, capsys):
    """The sound library survives a test that passes; a file that pytest cannot collect is neither noticed nor survived."""
    fault = BY_NAME["check-inverted"]
    passes, broken = tmp_path / "test_passes.py", tmp_path / "test_broken.py"
    passes.write_text("def test_nothing():\n    pass\n", encoding="utf-8")
    broken.write_text("import nothing_of_that_name\n", encoding="utf-8")
    assert mutate.who_notices(fault, "tests", [passes]) is None
    with pytest.raises(mutate.NotTried, match="pytest could not run test_broken"):
        mutate.who_notices(fault, "tests", [broken])
    with pytest.raises(mutate.NotTried, match="no time was left"):
        mutate.who_notices(fault, "tests", [passes], end=0)
    monkeypatch.setattr(mutate, "likeliest_first", lambda *_: [passes])
    trying = mutate.Run("tests", tmp_path / "found.json")
    trying(fault)
    assert trying.survivors == [fault.name] and "SURVIVES" in capsys.readouterr().out
    assert mutate.read(tmp_path / "found.json")["tests"][fault.name]["noticed"] is None


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "by", "noticed"),
    [
        ("fgsm-sign", "notebooks", "03_gradient_attacks.ipynb"),
        ("margin-sign", "tests", "test_losses.py"),
        ("interval-of-the-failures", "exercises", "05_measuring_robustness.ipynb"),
    ],
)
def test_one_fault_of_each_kind_of_run(name, by, noticed, tmp_path):
    done = run(name, "--by", by, "--store", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert noticed in done.stdout


def test_equivalent_mutants_are_of_the_code_that_is_there():
    for file, old, new, why in mutate.EQUIVALENT:
        lines = [line.strip() for line in mutate.text_of(file).splitlines() if old in line]
        assert len(lines) == 1 and why, (file, old, lines)
        changed = lines[0].replace(old, new)
        assert mutate.equivalent(file, f"7: {lines[0]}  →  {changed}") == why
        assert not mutate.equivalent(file, f"7: {lines[0]}  →  {changed} + 1")


def test_every_mutant_that_survives_is_explained():
    left = [
        (name, result["line"])
        for name, result in mutate.read(mutate.MUTANTS)["tests"].items()
        if not result["noticed"] and not mutate.equivalent(name.split()[0], result["line"])
    ]
    assert not left


@pytest.mark.parametrize("by", ["notebooks", "tests"])
def test_readme_gives_the_stored_score(by):
    said = mutate.sentence(mutate.read(mutate.STORE), by)
    if said is None:
        pytest.skip(f"no whole run is stored: python tools/mutate.py --by {by} --resume")
    assert said in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
