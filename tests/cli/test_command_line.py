"""The command line: documented verbs, one line for every expected error, nothing half-written."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import click
import pytest

from edgetl.cli import cli
from edgetl.cli.examples import examples_of


def edgetl(*arguments, cwd=None):
    command = [sys.executable, "-m", "edgetl", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)


def verbs():
    context = click.Context(cli)
    return [cli.get_command(context, name) for name in cli.list_commands(context)]


def help_of(command):
    return command.get_help(click.Context(command, info_name=command.name, max_content_width=400, terminal_width=400))


@pytest.mark.parametrize("command", verbs(), ids=lambda command: command.name)
def test_every_verb_and_every_parameter_explains_itself(command):
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{command.name} {parameter.name} has no help"
        else:
            assert parameter.make_metavar(click.Context(command)) in help_of(command)


@pytest.mark.parametrize("command", verbs(), ids=lambda command: command.name)
def test_every_verb_has_examples_that_parse(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "status.json").write_text("{}")
    lines = examples_of(command)
    assert 1 <= len(lines) <= 2
    for line in lines:
        assert line in help_of(command)
        program, verb, *arguments = shlex.split(line)
        assert (program, verb) == ("edgetl", command.name)
        command.make_context(verb, arguments).close()


def test_every_verb_is_in_a_section_of_the_help_with_a_whole_summary():
    shown = help_of(cli)
    sections = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections == ["Options:", "Build:", "Run and learn:", "Devices:", "Inspect:"]
    assert all(f"\n  {command.name} " in shown for command in verbs())
    assert "..." not in shown.partition("Options:")[2]


def test_the_help_needs_neither_numpy_nor_rich():
    probe = (
        "import sys; from edgetl.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: sys.exit(bool({'numpy', 'PIL', 'rich'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)


@pytest.mark.parametrize("command", verbs(), ids=lambda command: command.name)
def test_every_verb_can_print_json(command):
    assert "as_json" in {parameter.name for parameter in command.params}


@pytest.mark.parametrize("verb", ["targets", "backbones", "doctor"])
def test_a_list_is_json_with_names(verb):
    done = edgetl(verb, "--json")
    assert done.returncode == 0, done.stderr
    assert all(entry["name"] for entry in json.loads(done.stdout))


@pytest.mark.parametrize("verb", ["targets", "backbones", "doctor"])
def test_a_list_is_a_table_for_people(verb):
    done = edgetl(verb)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 5


def test_listing_needs_no_tensorflow():
    probe = (
        "import sys; from edgetl.cli import main\n"
        "try: main(['backbones', '--json'])\n"
        "except SystemExit: assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["buidl"], "No such command 'buidl'"),
        (["build", "--data", "nowhere"], "no such folder or CSV file: nowhere"),
        (["build", "--data", ".", "--target", "corral"], "unknown target 'corral' (did you mean 'coral'?)"),
        (["build", "--data", ".", "--backbone", "mobilnet-v2-0.35"], "did you mean 'mobilenet-v2-0.35'?"),
        (["build", "--data", ".", "--target", "coral", "--quantize", "float32"], "coral supports int8"),
        (["build", "--data", ".", "--target", "coral", "--quantize", "int16x8"], "coral supports int8"),
        (["build", "--data", ".", "--max-drop", "-1"], "max_drop must be 0 to 100"),
        (["build", "--data", ".", "--allow-drop"], "--max-drop 1"),
        (["build", "--data", ".", "--fine-tune", "some"], "invalid value 'some': expected auto, off"),
        (["build", "--data", ".", "--backbone", "gone.keras"], "gone.keras"),
        (["build", "--data", ".", "--name", "x" * 201], "cannot be the name of a bundle"),
        (["build", "--data", ".", "--normalization", "1", "2"], "--normalization is only for Keras model files"),
        (["build", "--data", ".", "--time", "20m"], "--time needs a limit"),
        (["build", "--data", ".", "--max-latency-ms", "60"], "no int8 latency is known for generic"),
        (["build", "--data", ".", "--max-size-bytes", "9", "--quantize", "float16"], "a search is for int8"),
        (["search", "--data", ".", "--input-size", "5"], "input size 5 is too small"),
        (["search", "--data", ".", "--prune", "0.5", "--no-prune"], "--prune and --no-prune contradict each other"),
        (["check", "nowhere.tflite"], "no such file: nowhere.tflite"),
        (["check", "nowhere.tflite", "--target", "rpi4"], "rpi4 has no Edge TPU"),
        (["compile", "nowhere.edgetl"], "there is no bundle at nowhere.edgetl"),
        (["show", "nowhere.edgetl"], "no such file: nowhere.edgetl"),
        (["run", "nowhere.edgetl", "--source", "."], "there is no bundle at nowhere.edgetl"),
        (["evaluate", "nowhere.edgetl", "--data", "nowhere"], "nowhere"),
        (["export", "nowhere.edgetl"], "there is no bundle at nowhere.edgetl"),
        (["build", "--data", ".", "-o", "/proc/x"], "cannot write to /proc/x"),
        (["build", "--data", ".", "--name", "a", "-o", "b.edgetl"], "--name a contradicts --output b.edgetl"),
        (["search", "--data", ".", "--name", "a", "-o", "b.edgetl"], "--name a contradicts --output b.edgetl"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, complaint):
    done = edgetl(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_project_file_with_a_wrong_option_names_it(tmp_path):
    (tmp_path / "edgetl.toml").write_text('[build]\ncolour = "red"\n')
    done = edgetl("build", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown option 'colour' under [build]" in done.stderr


def test_a_project_file_with_a_misspelt_table_names_it(tmp_path):
    (tmp_path / "edgetl.toml").write_text('[biuld]\ntarget = "rpi4"\n')
    done = edgetl("build", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown 'biuld'; write the options of a project under [build]" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "normalization = 3",
        "data = [1]",
        'workers = "two"',
        "fine-tune = 0",
        "fine-tune = true",
        "seed = 1.7",
        "exclude-bad = 2",
    ],
)
def test_a_project_file_with_a_value_of_another_kind_is_named(tmp_path, line):
    (tmp_path / "edgetl.toml").write_text(f"[build]\n{line}\n")
    done = edgetl("build", cwd=tmp_path)
    assert done.returncode == 2
    assert f"edgetl.toml: {line.split(' =')[0].replace('-', '_')}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_project_file_gives_the_options(tmp_path):
    project = '[build]\ndata = "photos"\ntarget = "rpi4"\nexclude-bad = true\nmax-drop = 1\n'
    (tmp_path / "edgetl.toml").write_text(project, encoding="utf-8-sig")  # as Windows' editor saves it
    done = edgetl("build", cwd=tmp_path)
    assert done.returncode == 2
    assert "no such folder or CSV file: photos" in done.stderr


def test_check_predicts_where_operators_run(shared):
    model = shared("coral/pairs/deeplabv3_mnv2_dm05_pascal_quant.tflite")
    done = edgetl("check", model, "--target", "coral", "--json")
    answer = json.loads(done.stdout)
    assert set(answer) >= {"ops", "refused", "parameter_bytes", "activation_bytes"}
    assert {op["placed"] for op in answer["ops"]} == {"tpu", "cpu"}
    assert edgetl("check", model, "--fail-on", "cpu").returncode == 1


def test_check_proves_that_a_compiled_model_came_from_its_source(shared):
    pairs = shared("coral/pairs")
    source, other = pairs / "split_concat.tflite", pairs / "keras_lstm_mnist_ptq_edgetpu.tflite"
    compiled = pairs / "split_concat_edgetpu.tflite"
    proved = edgetl("check", source, "--compiled", compiled, "--json")
    assert json.loads(proved.stdout) == {"match": True, "reasons": []}
    refused = edgetl("check", source, "--compiled", other, "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["reasons"]


def test_show_opens_a_compiled_model(shared):
    done = edgetl("show", shared("coral/pairs/split_concat_edgetpu.tflite"), "--json")
    described = json.loads(done.stdout)[0]
    assert set(described["edgetpu"]) >= {"min_runtime_version", "cached_bytes", "streamed_bytes"}
    assert "cpu_ops" in described


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path):
    script = (
        "import sys\nsys.modules['threadpoolctl'] = None\nfrom edgetl.cli import main\nmain(['build', '--data', '.'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "needs threadpoolctl. Install it: pip install 'edgetl[host]'" in done.stderr


def test_ctrl_c_ends_with_130_wherever_it_falls(tmp_path):
    (tmp_path / "interrupted.py").write_text(
        "from edgetl.cli import cli, main\n"
        "def stop(*_, **__): exec('raise KeyboardInterrupt')\n"  # as within the import of a dataclass
        "cli.main = stop\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-m", "interrupted"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130
    assert "no half-written files are left" in done.stderr
