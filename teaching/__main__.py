"""`python -m teaching seal --seed 3141592 --out class-3b`: the commands of a teacher."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from teaching.slides.command import slides

app = typer.Typer(add_completion=False, no_args_is_help=True, help="What a teacher runs.")
app.command()(slides)


@app.callback()
def _main():
    """What a teacher runs."""


@app.command()
def seal(
    seed: Annotated[
        int, typer.Option(min=0, help="Draws models, names and parameters; with it anyone can make the key.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the students: the models and sealed.json.")],
    keys: Annotated[
        Path | None, typer.Option(help="Folder for key-SEED.json; by default the one that holds OUT.")
    ] = None,
    models: Annotated[int, typer.Option(min=6, max=9, help="How many.")] = 6,
):
    """Make a set of sealed models for a class (lesson 13), a few minutes."""
    from teaching.seal import seal as make

    try:
        key = make(seed, out, keys=keys, models=models, progress=typer.echo)
    except (FileExistsError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(f"for the class: {out}\nkey, for you:  {key}")


@app.command()
def board(
    entries: Annotated[list[Path], typer.Argument(help="The files that the class handed in, *.sheet.json.")],
    sealed: Annotated[
        Path | None, typer.Option(help="The set they answer; by default the one of the course.")
    ] = None,
    keep: Annotated[str, typer.Option(help="Of each person: best or latest.")] = "best",
    out: Annotated[Path | None, typer.Option(help="Write a CSV file instead of printing.")] = None,
):
    """Merge the answer sheets of a class into one leaderboard."""
    from advlib.sealed import load, merge

    try:
        table = merge(entries, load(sealed), keep)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if out is None:
        typer.echo(table.to_string(index=False))
    else:
        table.to_csv(out, index=False)


# --- exercises: release → collect → autograde → feedback → marks


@contextlib.contextmanager
def _problems():
    """What a command cannot do, in one line."""
    try:
        yield
    except ImportError as error:
        typer.echo(f"{error}: nbgrader is needed here, pip install -e '.[teach]'", err=True)
        raise typer.Exit(2) from error
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


COURSE = Annotated[Path, typer.Option("--course", help="Folder of the class; made where it is not there.")]
EXERCISES = Annotated[
    Path | None, typer.Option("--exercises", help="Sources of your own; by default those of the course.")
]


def _course(folder, exercises=None):
    from teaching import marking, release

    return marking.Course(folder, exercises or release.SOURCES)


@app.command()
def release(
    numbers: Annotated[list[str] | None, typer.Argument(help="Lessons, for example 03; none: all.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what is not as its source gives it.")
    ] = False,
):
    """Make the students' notebooks, notebooks/exercises/, and run them."""
    with _problems():
        from teaching import release

        different = release.differing(numbers or ())
        for source, path in different:
            name = path.relative_to(release.ROOT)
            if check:
                typer.echo(
                    f"{name} is not what its source gives: python -m teaching release {path.name[:2]}",
                    err=True,
                )
            else:
                typer.echo(f"{name}: made, {release.write(source, path):.1f} s to run")
        left = release.left_over()
        for name in left:
            typer.echo(f"notebooks/exercises/{name} has no source in teaching/exercises: delete it", err=True)
    if left or (check and different):
        raise typer.Exit(1)
    typer.echo(f"{len(release.sources(numbers or ()))} notebooks are as their sources give them")


@app.command()
def export(destination: Annotated[Path, typer.Argument(help="New folder.")]):
    """Make the students' copy of the course, without solutions, hidden tests and keys."""
    with _problems():
        from teaching.export import Leak
        from teaching.export import export as make

        try:
            typer.echo(f"for the students: {make(destination)}")
        except Leak as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error


@app.command()
def collect(
    handed_in: Annotated[
        Path, typer.Argument(help="A folder, zip file or notebook NAME_05_….ipynb for each student.")
    ],
    course: COURSE = Path("class"),
    exercises: EXERCISES = None,
):
    """Sort what was handed in, by student and assignment."""
    with _problems():
        from teaching import marking

        for line in marking.collect(_course(course, exercises), handed_in):
            typer.echo(line)


@app.command()
def autograde(
    course: COURSE = Path("class"),
    exercises: EXERCISES = None,
    again: Annotated[bool, typer.Option("--again", help="Also what is marked already.")] = False,
    cell: Annotated[float, typer.Option(min=1, help="Seconds for one cell.")] = 60,
    total: Annotated[float, typer.Option(min=1, help="Seconds for one submission.")] = 600,
    memory: Annotated[float, typer.Option(min=100, help="MB for one submission.")] = 4000,
    no_isolation: Annotated[
        bool, typer.Option("--no-isolation", help="Run student code with your own rights.")
    ] = False,
):
    """Mark what is collected and not marked yet: each in a sandbox, under limits. Goes on after an interruption."""
    with _problems():
        from tqdm import tqdm

        from teaching import marking, sandbox

        why_not = None if no_isolation else sandbox.isolation()
        if why_not:
            typer.echo(
                f"{why_not}. Student code would run with your rights, and could read your files: mark in a container or "
                "virtual machine with --no-isolation, which keeps the limits alone",
                err=True,
            )
            raise typer.Exit(2)
        limits = sandbox.Limits(cell=cell, total=total, memory=memory)
        typer.echo(sandbox.in_words(limits, not no_isolation))
        course = _course(course, exercises)
        for student, assignment in tqdm(
            marking.pending(course, again=again), unit="submission", disable=None
        ):
            try:
                done = marking.mark(course, student, assignment, limits, isolated=not no_isolation)
            except sandbox.SandboxError as error:
                typer.echo(str(error), err=True)
                raise typer.Exit(2) from error
            notes = "; ".join([done["status"], *done["notes"]])
            tqdm.write(f"{student}, {assignment}: {done['seconds']:.1f} s, {notes}")


@app.command()
def feedback(course: COURSE = Path("class"), exercises: EXERCISES = None):
    """Write a page for each marked submission: feedback/STUDENT/ASSIGNMENT/."""
    with _problems():
        from teaching import marking

        pages = marking.feedback(_course(course, exercises))
        typer.echo(f"{len(pages)} pages in {course / 'feedback'}")


@app.command()
def marks(
    course: COURSE = Path("class"),
    exercises: EXERCISES = None,
    out: Annotated[Path | None, typer.Option(help="Write a CSV file instead of printing.")] = None,
):
    """The marks of the class, with what went wrong."""
    with _problems():
        from teaching import marking

        table = marking.marks(_course(course, exercises))
        if out is None:
            typer.echo(table.to_string(index=False, na_rep="", float_format="%g"))
        else:
            table.to_csv(out, index=False, float_format="%g")


if __name__ == "__main__":
    app(prog_name="python -m teaching")
