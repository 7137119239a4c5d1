"""The script for Slurm in docs/many_processes.md is one that bash can read."""

import re
import subprocess
from pathlib import Path


def test_the_template_is_bash() -> None:
    page = (Path(__file__).parents[1] / "docs" / "many_processes.md").read_text()
    (script,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    assert script.startswith("#!/bin/bash\n#SBATCH")
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
