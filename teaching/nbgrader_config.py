"""nbgrader's settings for a class of this course; its gradebook in JupyterLab reads them as well as `python -m teaching`."""

import sys
from pathlib import Path

import nbgrader
from nbgrader import preprocessors as given

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from teaching import marking, release  # noqa: E402

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "advlib"

# nbgrader's own list, with our stubs
c.GenerateAssignment.preprocessors = [
    given.IncludeHeaderFooter,
    given.InstantiateTests,
    given.LockCells,
    release.ClearSolutions,
    given.ClearOutput,
    given.CheckCellMetadata,
    given.ComputeChecksums,
    given.SaveCells,
    given.ClearHiddenTests,
    given.ClearMarkScheme,
    given.ComputeChecksums,
    given.CheckCellMetadata,
]
c.ClearSolutions.code_stub = {"python": release.STUB}
c.ClearSolutions.text_stub = "*Your answer:*"

# with what a student took out put back, and with the kernel in a sandbox
c.Autograde.sanitize_preprocessors = [
    marking.Restore,
    given.ClearOutput,
    given.DeduplicateIds,
    given.OverwriteKernelspec,
    given.OverwriteCells,
    given.CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    marking.Sandbox,
    given.LimitOutput,
    given.SaveAutoGrades,
    given.AssignLatePenalties,
    given.CheckCellMetadata,
]

# without the hidden tests, and without a request to another host
c.GenerateFeedback.preprocessors = [given.GetGrades, given.ClearHiddenTests, marking.HideTracebacks]
# of the page for marking by hand; a section of its own for feedback, or that page would be made with its template
c.HTMLExporter.template_name = "by_hand"
c.GenerateFeedback.HTMLExporter.template_name = "offline"
c.HTMLExporter.extra_template_basedirs = [
    str(HERE / "templates"),
    str(Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates"),
]
