"""Makes an environment from wheels. Its source is run on devices without edgetl; it uses the standard library only.

The environment is complete before a link selects it as the one to use.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
import venv
import zipfile

COMMAND = "#!{python}\nfrom edgetl.cli import main\nmain()\n"


def unpack(folder: str, digest: str, with_system_packages: bool, wheels: list[str]) -> None:
    """Make the environment `folder`/environments/`digest`, and let the link `folder`/python point to it."""
    place, link = os.path.join(folder, "environments", digest), os.path.join(folder, "python")
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, system_site_packages=with_system_packages, with_pip=False, symlinks=True)
    (packages,) = glob.glob(os.path.join(place, "lib", "python*", "site-packages"))
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    _write_command(place)
    os.sync()
    former = os.path.realpath(link)
    _switch(link, os.path.join("environments", digest))
    for other in glob.glob(os.path.join(folder, "environments", "*")):
        if os.path.realpath(other) not in (os.path.realpath(place), former):
            shutil.rmtree(other, ignore_errors=True)


def _write_command(place: str) -> None:
    command = os.path.join(place, "bin", "edgetl")
    with open(command, "w") as file:
        file.write(COMMAND.format(python=os.path.abspath(os.path.join(place, "bin", "python"))))
    os.chmod(command, 0o755)


def _switch(link: str, target: str) -> None:
    beside = f"{link}.new"
    if os.path.lexists(beside):
        os.unlink(beside)
    os.symlink(target, beside)
    os.replace(beside, link)


if __name__ == "__main__":
    unpack(sys.argv[1], sys.argv[2], sys.argv[3] == "1", sys.argv[4:])
    sys.stdout.write(json.dumps({"environment": sys.argv[2]}))
