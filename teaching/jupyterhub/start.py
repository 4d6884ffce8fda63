"""What the hub starts for a student, under the student's account: copies of the lessons, then the server.

~/advlib/work     the student's copies; a notebook that they changed is never replaced, as with `course.py lab`
~/advlib/advlib   a link to the library, to be read beside a lesson
"""

import os
import sys
from pathlib import Path

import course  # an editable install of the course brings it along

HOME = Path.home() / "advlib"
LIBRARY = course.ROOT / "advlib"

try:
    HOME.mkdir(exist_ok=True)
    if not (HOME / "advlib").exists():
        (HOME / "advlib").symlink_to(LIBRARY)
    course.ROOT, course.WORK = HOME, HOME / "work"
    course.COPIES = course.WORK / ".copies.json"
    course.copy_lessons()
except (OSError, course.Problem) as error:  # with a full disk the student still needs a server, to make room
    print(f"start.py: the lessons were not copied: {error}", file=sys.stderr)

# -P: a student's own json.py in the home folder is not to be imported by the server.
os.execv(sys.executable, [sys.executable, "-P", "-m", "jupyterhub.singleuser", *sys.argv[1:]])
