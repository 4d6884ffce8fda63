"""The one place that imports TensorFlow and Keras.

TensorFlow's C++ code prints start-up lines to file descriptor 2 before any Python setting can stop it; in a
stored notebook they would differ from machine to machine. Turning oneDNN off would silence some of them and
cost a factor of three in speed, so the descriptor itself is redirected while the import runs.
"""

import os
import sys
import tempfile


def _import_quietly():
    try:
        keep = os.dup(2)
    except OSError:  # no standard error at all, as under pythonw
        import keras
        import tensorflow as tf

        return tf, keras
    with tempfile.TemporaryFile() as lines:
        sys.stderr.flush() if sys.stderr else None
        os.dup2(lines.fileno(), 2)
        try:
            import keras
            import tensorflow as tf
        except BaseException:
            os.dup2(keep, 2)
            lines.seek(0)
            os.write(2, lines.read())  # what explains a failed import must be seen
            raise
        finally:
            os.dup2(keep, 2)
            os.close(keep)
    return tf, keras


if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise ImportError(
        f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}: advlib takes gradients with TensorFlow. Unset KERAS_BACKEND, "
        "or set it to tensorflow, before Python starts; a model saved as .keras under another backend loads as it is."
    )
try:
    tf, keras = _import_quietly()
except ModuleNotFoundError as error:
    if error.name not in {"tensorflow", "keras"}:
        raise
    raise ModuleNotFoundError(
        f"no module named {error.name!r}: advlib takes gradients with TensorFlow, which is an extra so that it does not "
        "replace a build you have. Install it with: pip install 'advlib[cpu]'",
        name=error.name,
    ) from None
if keras.backend.backend() != "tensorflow":  # keras.json can choose another one as well
    raise ImportError(
        f"Keras runs on the backend {keras.backend.backend()!r}: advlib takes gradients with TensorFlow. "
        'Set the environment variable KERAS_BACKEND to tensorflow, or "backend" in keras.json.'
    )
