"""The verbs of learning on the device: teach, correct, forget, rename, adapt, merge, undo, reset, history, status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import click

from edgetl.cli import print_json
from edgetl.cli.console import print_table, show_progress
from edgetl.cli.device_options import BUNDLE_OR_DEVICE, device_options, is_bundle, reach, require_here
from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.deployment import DeviceInventory
    from edgetl.learners import Adaptation
    from edgetl.runtime import Classifier, Learner
    from edgetl.runtime.learning import Step

REFUSED = 1
"""Exit code where the guard refused a step."""

Command = Callable[..., Any]


def state_option(command: Command) -> Command:
    """`--state`, the same for every verb that teaches, or uses what was taught."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of what was taught.  [default: NAME.state beside BUNDLE]",
    )(command)


def open_classifier(bundle: Path, state: Optional[Path], threads: Optional[int], observe: bool = False) -> Classifier:
    """A classifier that follows what was taught, where there is such a state; else the shipped one.

    With `observe`, what it predicts counts for the state's drift; a state that was named is made for that.
    """
    from edgetl.runtime import Classifier, Learner

    if has_state(bundle, state):
        if observe and state is not None:
            with suppress(OSError):  # a read-only disk is no reason not to classify
                state.mkdir(parents=True, exist_ok=True)
        return Learner(bundle, state=state, threads=threads, observe=observe).classifier()
    return Classifier(bundle, threads=threads)


def has_state(bundle: Path, state: Optional[Path]) -> bool:
    """Whether a state was named, or lies where it does by default."""
    from edgetl.runtime.learning import state_folder

    return state is not None or state_folder(bundle).is_dir()


def require_no_state(state: Optional[Path]) -> None:
    """Raise OptionError where a state was named for a device, which has its own."""
    if state is not None:
        raise OptionError("--state goes with a bundle here; on a device it is that of the bundle that runs")


@contextmanager
def open_learner(bundle: Path, state: Optional[Path], **options: Any) -> Iterator[Learner]:
    """A learner for one verb, closed at its end."""
    from edgetl.runtime import Learner

    with Learner(bundle, state=state, **options) as learner:
        yield learner


def _verb(command: Command) -> click.Command:
    """What all learning verbs have in common."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
    bundle = click.argument("bundle", type=click.Path(path_type=Path))
    return click.command()(bundle(state_option(as_json(command))))


def _verb_also_there(command: Command) -> click.Command:
    """What the learning verbs have in common that serve a device too."""
    where = click.argument("where", metavar=BUNDLE_OR_DEVICE)
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
    return click.command()(where(state_option(device_options(as_json(command)))))


def guard_option(then: str) -> Callable[[Command], Command]:
    """`--guard`, the same for every step that may cost the known classes something; `then` is what a refusal means."""
    return click.option(
        "--guard",
        type=click.FloatRange(0, 100),
        metavar="POINTS",
        help=f"Refuse what costs the known classes more accuracy than this, on the guard set; {then}.",
    )


@_verb_also_there
@click.argument("label")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@guard_option("the pictures wait")
@click.option("--thumbnails", is_flag=True, help="Keep small JPEGs too, for a later backbone to learn from.")
@click.option("--threads", type=click.IntRange(min=1), help="Interpreter threads; the machine's cores by default.")
def teach(
    where: str,
    label: str,
    images: Sequence[str],
    guard: Optional[float],
    thumbnails: bool,
    threads: Optional[int],
    state: Optional[Path],
    as_json: bool,
    **options: Any,
) -> None:
    """Teach a bundle, a file here or the one that a device runs, that each IMAGE (or every one in a folder) shows
    LABEL, which may be a new class.

    Without an IMAGE, the pictures of LABEL that the guard refused before are tried again. A device is whatever is no
    file and does not end in .edgetl; it is sent the pictures, and keeps none of them.
    """
    from edgetl.runtime import iterate

    pictures = [found.image for source in images for found in iterate(source)]
    if is_bundle(where):
        from edgetl.runtime.device import teach_pictures

        require_here(**options)
        with open_learner(Path(where), state, threads=threads, thumbnails=thumbnails) as learner:
            told = teach_pictures(learner, iter(pictures) if pictures else None, label, guard).to_dict()
    else:
        from edgetl.deployment import teach as teach_there

        require_no_state(state)
        with reach(where, **options) as transport, show_progress() as progress:
            told = teach_there(transport, label, pictures, guard, thumbnails, threads, progress).to_dict()
    for line in told["unreadable"]:
        click.echo(line, err=True)
    _tell(told, as_json, _taught_line(told))


@_verb
@click.argument("picture", type=int)
@click.argument("label")
@guard_option("the picture keeps its label")
def correct(
    bundle: Path, picture: int, label: str, guard: Optional[float], state: Optional[Path], as_json: bool
) -> None:
    """Give PICTURE, by its id in the history, the right LABEL."""
    with open_learner(bundle, state) as learner:
        _tell_step(learner, learner.correct(picture, label, guard), as_json, f"picture {picture} is a '{label}' now")


@_verb
@click.argument("picture", type=int, required=False)
@click.option("--class", "label", metavar="LABEL", help="Forget this whole class instead of one picture.")
@guard_option("it is not forgotten")
def forget(
    bundle: Path,
    picture: Optional[int],
    label: Optional[str],
    guard: Optional[float],
    state: Optional[Path],
    as_json: bool,
) -> None:
    """Forget PICTURE, by its id in the history, or a whole class, exactly."""
    if (picture is None) == (label is None):
        raise OptionError("give the id of a picture, or --class LABEL; see the ids: edgetl history")
    with open_learner(bundle, state) as learner:
        if label is not None:
            _tell_step(learner, learner.forget_class(label, guard), as_json, f"class '{label}' is forgotten")
        elif picture is not None:
            _tell_step(learner, learner.forget(picture, guard), as_json, f"picture {picture} is forgotten")


@_verb
@click.argument("old")
@click.argument("new")
def rename(bundle: Path, old: str, new: str, state: Optional[Path], as_json: bool) -> None:
    """Give class OLD the name NEW."""
    with open_learner(bundle, state) as learner:
        _tell_step(learner, learner.rename(old, new), as_json, f"class '{old}' is called '{new}' now")


@_verb
@guard_option("everything keeps its weight")
@click.option("--leave-old", is_flag=True, help="Give the old conditions up where that is better: they are gone.")
def adapt(bundle: Path, guard: Optional[float], leave_old: bool, state: Optional[Path], as_json: bool) -> None:
    """Let the classes of BUNDLE hold under old and new conditions alike, where that serves the pictures taught here.

    For conditions that have changed: teach some pictures of each class as they look now first. Only where giving the
    old conditions up serves these far better, what was shipped weighs less instead. edgetl undo brings everything
    back. An adaptation stays on its device.
    """
    with open_learner(bundle, state) as learner:
        step = learner.adapt(guard, leave_old)
        _tell_step(learner, step, as_json, _adapted_line(step.adaptation))


@_verb
def undo(bundle: Path, state: Optional[Path], as_json: bool) -> None:
    """Take the latest step back that is in effect, as if it had never been; again for the one before."""
    with open_learner(bundle, state) as learner:
        step = learner.undo()
        undone = next(entry for entry in learner.history() if entry.id == step.subject)
        _tell_step(learner, step, as_json, f"step {undone.step} ({undone.kind}) is undone")


@_verb
def reset(bundle: Path, state: Optional[Path], as_json: bool) -> None:
    """Go back to what BUNDLE was shipped with; undo brings what was taught back."""
    with open_learner(bundle, state) as learner:
        _tell_step(learner, learner.reset(), as_json, "back to what was shipped; edgetl undo takes that back")


@_verb
@click.argument("sources", nargs=-1, required=True, metavar="STATE|PATCH...", type=click.Path(path_type=Path))
@guard_option("nothing is taken in")
def merge(bundle: Path, sources: Sequence[Path], guard: Optional[float], state: Optional[Path], as_json: bool) -> None:
    """Take in what other devices were taught: their state folders, or patches that they exported."""
    with open_learner(bundle, state) as learner:
        step = learner.merge(*sources, guard=guard)
        lost = f"; {step.not_carried} of another backbone, without thumbnail, were not" if step.not_carried else ""
        _tell_step(learner, step, as_json, f"{len(step.pictures)} pictures were taken in{lost}")


@_verb
def history(bundle: Path, state: Optional[Path], as_json: bool) -> None:
    """List every operation, the oldest first, and what became of it."""
    with open_learner(bundle, state) as learner:
        entries = learner.history()
    if as_json:
        return print_json([entry.to_dict() for entry in entries])
    header = ["id", "step", "what", "label", "about", "state", "now", "time", "source"]
    print_table(header, [[_cell(value) for value in _row(entry)] for entry in entries])


@_verb_also_there
def status(where: str, state: Optional[Path], as_json: bool, **options: Any) -> None:
    """Tell what a bundle, a file here or the one that a device runs, knows with what it was taught, and whether what
    it sees still looks like that.

    A device is whatever is no file and does not end in .edgetl; of one it tells too what it is, and how its service
    does. For several devices: edgetl devices.
    """
    if is_bundle(where):
        require_here(**options)
        with open_learner(Path(where), state) as learner:
            found = learner.status().to_dict()
        return print_json(found) if as_json else _tell_status(found)
    require_no_state(state)
    from edgetl.deployment import status as device_status

    with reach(where, **options) as transport:
        device = device_status(transport)
    if as_json:
        return print_json(device.to_dict())
    _print_device(where, device.inventory)
    if device.learned:
        _tell_status(device.learned.to_dict())


def _print_device(where: str, device: DeviceInventory) -> None:
    running, service = device.running, device.service
    runs = f"{running.name or 'a damaged bundle'} {running.digest[:12]} runs" if running else "nothing runs"
    click.echo(f"{where}: {runs} on {device.board}, {device.machine.interpreter or 'without a TFLite interpreter'}")
    if running and running.fault:
        click.echo(f"{running.fault}; deploy it again")
    if service:
        restarts = f", {service.restarts} restarts" if service.restarts else ""
        click.echo(f"service: {service.state}{restarts}")
    if device.probation_seconds_left:
        click.echo(f"on probation for another {device.probation_seconds_left:.0f} s")
    if device.previous:
        click.echo(f"previous bundle: {device.previous[:12]}; return to it: edgetl rollback {where}")


def _tell_status(found: Mapping[str, Any]) -> None:
    rows = [[label, str(count["shipped"]), str(count["taught"])] for label, count in found["pictures"].items()]
    print_table(["class", "shipped", "taught"], rows)
    forgotten = f"; forgotten: {', '.join(found['forgotten_classes'])}" if found["forgotten_classes"] else ""
    click.echo(
        f"{found['bundle']}, {found['steps']} steps, {found['pending']} pictures pending{forgotten}\n"
        f"{found['state']}: {found['size_bytes'] / 1e6:.1f} MB{'' if found['writable'] else ', read-only'}"
    )
    spanned, halvings = found.get("spanned", ()), found["halvings"]
    if spanned or halvings:
        click.echo(f"adapted: {_adapted(spanned, halvings)}")
    _tell_drift(found["drift"])


def _tell_step(learner: Learner, step: Step, as_json: bool, line: str) -> None:
    from edgetl.runtime.device import complete_step

    _tell(complete_step(learner, step).to_dict(), as_json, line)


def _tell(told: dict[str, Any], as_json: bool, line: str) -> None:
    """Say what a step did and what it costs; one that was refused ends the process."""
    if as_json:
        print_json(told)
    else:
        refusal = f"refused: this {told['kind']} would cost too much; nothing was changed"
        click.echo(f"step {told['id']}: {line}" if told["id"] else line if told["accepted"] else refusal)
        click.echo(f"classes: {', '.join(told['labels'])}")
        if told["effect"]:
            _tell_effect(told["effect"])
    if not told["accepted"]:
        raise SystemExit(REFUSED)


def _taught_line(told: Mapping[str, Any]) -> str:
    count = f"{len(told['pictures'])} picture{'s' if len(told['pictures']) != 1 else ''}"
    if told["accepted"]:
        return f"taught '{told['label']}' with {count}"
    return f"refused: {count} of '{told['label']}' would cost too much, and wait for more"


def _adapted_line(found: Adaptation) -> str:
    if not found.helps:
        return (
            f"nothing was changed: on {found.pictures} pictures taught here, nothing serves clearly better "
            f"than what is in effect ({found.before:.1%}, each left out in turn)"
        )
    return (
        f"on {found.pictures} pictures taught here, each left out in turn: {found.before:.1%} -> {found.after:.1%}\n"
        f"{_adapted(found.spanned, found.halvings)}"
    )


def _adapted(spanned: Sequence[str], halvings: Mapping[str, int]) -> str:
    weights = ", ".join(f"1/{2**count} for {label}" for label, count in halvings.items() if count)
    parts = [f"old and new conditions count alike for {', '.join(spanned)}"] if spanned else []
    parts += [f"what was shipped counts {weights}"] if weights else []
    return "; ".join(parts) or "what was shipped counts in full again"


def _tell_drift(drift: Mapping[str, Any]) -> None:
    click.echo(f"drift: {drift['verdict']} ({drift['pictures']} pictures classified since the latest step)")
    for name, signal in drift["signals"].items():
        click.echo(
            f"  {name} {signal['value']:.2f}: usual {signal['usual']:.2f}, drifting at {signal['drifting']:.2f}, "
            f"changed at {signal['changed']:.2f}"
        )


def _tell_effect(told: dict[str, Any]) -> None:
    from edgetl.runtime.learning import Effect

    effect = Effect.from_dict(told)
    click.echo(f"known classes, on guard pictures: {0 - effect.cost_points:+.1f} points")
    for label in effect.losers:
        click.echo(f"  {label}: {effect.before[label]:.1%} -> {effect.after[label]:.1%}")
    for label, accuracy in effect.taught.items():
        click.echo(f"  {label}: {accuracy:.1%}, by halves of its own pictures")
    for rivalry in effect.rivalries:
        click.echo(f"  '{rivalry.rival}' now takes {rivalry.pictures} of '{rivalry.label}'")


def _row(entry: Any) -> list[Any]:
    label = f"{entry.former} -> {entry.label}" if entry.former else entry.label
    now = entry.now if entry.now != entry.label else None
    about = _weight(entry.subject) if entry.kind == "adapt" else entry.subject
    return [entry.id, entry.step, entry.kind, label, about, entry.state, now, entry.time, entry.source]


def _weight(subject: int) -> str:
    from edgetl.runtime.learning import SPANNED

    return "both" if subject == SPANNED else f"1/{2**subject}"


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
