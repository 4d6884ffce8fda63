"""`python -m teaching seal --seed 3141592 --out class-3b`: the commands of a teacher."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="What a teacher runs.")


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


if __name__ == "__main__":
    app(prog_name="python -m teaching")
