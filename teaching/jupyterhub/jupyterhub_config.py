"""JupyterHub for a class, on one Linux server with systemd; teaching/guide.md says how to install it.

A student logs in with an account of the server and finds the lessons in ~/advlib/work. This file and start.py stay
together in a folder that only root can write to. Start: jupyterhub -f jupyterhub_config.py
"""

import sys
from pathlib import Path

c = get_config()  # noqa: F821  JupyterHub puts it there

# Passwords travel on this line. Until there is a certificate, nobody but this machine itself is served.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
# c.JupyterHub.bind_url = "https://:443"
# c.JupyterHub.ssl_cert = "/etc/letsencrypt/live/hub.example.org/fullchain.pem"
# c.JupyterHub.ssl_key = "/etc/letsencrypt/live/hub.example.org/privkey.pem"

# Who may log in: the members of these groups of the server.
c.JupyterHub.authenticator_class = "pam"
c.PAMAuthenticator.allowed_groups = {"students", "teachers"}

# Each student's server is a systemd unit under the student's own account. Beyond mem_limit it is the kernel that
# dies, not the server and not another student's; the guide has the measured memory of each lesson.
c.JupyterHub.spawner_class = "systemd"
c.SystemdSpawner.isolate_tmp = True
c.SystemdSpawner.extra_paths = [str(Path(sys.executable).parent)]  # for terminals
c.Spawner.mem_limit = "3G"
c.Spawner.cpu_limit = 2
c.Spawner.start_timeout = c.Spawner.http_timeout = 120  # seconds; a class starts all at once

# TensorFlow takes all cores it sees, in each kernel of the class at the same time.
c.Spawner.environment = {"TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "2"}

c.Spawner.cmd = [sys.executable, str(Path(__file__).with_name("start.py"))]
c.Spawner.notebook_dir = "~/advlib"
c.Spawner.default_url = "/lab/tree/work/00_start_here.ipynb"
c.Spawner.args = [
    # An idle kernel keeps its memory: it ends after an hour, an idle server after two.
    "--MappingKernelManager.cull_idle_timeout=3600",
    "--MappingKernelManager.cull_connected=True",
    "--ServerApp.shutdown_no_activity_timeout=7200",
    # Otherwise JupyterLab asks about news and looks for updates on the network.
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]
