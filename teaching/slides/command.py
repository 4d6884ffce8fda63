"""The command `python -m teaching slides`."""

from pathlib import Path
from typing import Annotated

import typer


def slides(
    lessons: Annotated[
        list[str] | None, typer.Argument(help="First letters, as 03; all without any.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pages and what they load.")] = Path(
        "teaching/slides/_build"
    ),
):
    """Make the slides of lessons from their stored outputs. Open one in a browser; S opens the speaker's window."""
    from advlib.nbplugin import find
    from teaching.slides import export

    try:
        for path in export(find(lessons), out):
            typer.echo(path)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
