"""Take the README's figure from lesson 02, as it is stored there: python tools/readme_figure.py [--check]."""

import base64
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSON, FIGURE = ROOT / "notebooks" / "02_noise.ipynb", ROOT / "docs" / "noise_and_attacks.png"


CELL = "2dc520b9"  # its key figure: accuracy over ε


def stored():
    """The figure that the cell shows, as PNG bytes."""
    cells = {cell["id"]: cell for cell in json.loads(LESSON.read_text(encoding="utf-8"))["cells"]}
    (figure,) = (
        out["data"]["image/png"] for out in cells[CELL]["outputs"] if "image/png" in out.get("data", {})
    )
    return base64.b64decode("".join(figure))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            FIGURE.read_bytes() != stored()
            and f"{FIGURE} is not lesson 02's figure: run python tools/readme_figure.py"
        )
    FIGURE.parent.mkdir(exist_ok=True)
    FIGURE.write_bytes(stored())
