"""The learning verbs: teach, correct, forget, rename, adapt, merge, undo, reset, history, status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import click

from edgetl.cli.console import echo, print_json, print_table, show_progress
from edgetl.cli.device_options import BUNDLE_OR_DEVICE, device_options, is_bundle, reach, require_here
from edgetl.cli.examples import examples
from edgetl.errors import OptionError
from edgetl.text import from_argument

if TYPE_CHECKING:
    from edgetl.deployment import DeviceInventory
    from edgetl.learners import Adaptation
    from edgetl.runtime import Learner
    from edgetl.runtime.learning import Step

REFUSED = 1
"""Exit code if the guard refused a step."""

Command = Callable[..., Any]


def state_option(command: Command) -> Command:
    """Add --state, the same for every verb that teaches, or uses what was taught."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of what was taught.  [default: NAME.state next to BUNDLE]",
    )(command)


def require_no_state(state: Optional[Path]) -> None:
    """Raise OptionError if a state was named for a device, which has its own."""
    if state is not None:
        raise OptionError("--state is for a bundle on this machine; a device uses the state of its running bundle")


@contextmanager
def open_learner(bundle: Path, state: Optional[Path], **options: Any) -> Iterator[Learner]:
    """A learner that is closed at the end of the verb."""
    from edgetl.runtime import Learner

    with Learner(bundle, state=state, **options) as learner:
        yield learner


def _verb(command: Command) -> click.Command:
    """Make a command of a learning verb: BUNDLE, --state and --json."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
    bundle = click.argument("bundle", type=click.Path(path_type=Path))
    return click.command()(bundle(state_option(as_json(command))))


def _verb_for_devices(command: Command) -> click.Command:
    """Make a command of a learning verb that also works on a device."""
    where = click.argument("where", metavar=BUNDLE_OR_DEVICE)
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
    return click.command()(where(state_option(device_options(as_json(command)))))


def guard_option(consequence: str) -> Callable[[Command], Command]:
    """Add --guard to a step that may make the known classes worse; `consequence` says what a refusal means."""
    return click.option(
        "--guard",
        type=click.FloatRange(0, 100),
        metavar="POINTS",
        help=f"Refuse the step if the known classes lose more accuracy than this on the guard set; {consequence}.",
    )


class _Label(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A parameter type: the name of a class, read as UTF-8 in every locale."""

    name = "LABEL"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        return from_argument(value)


LABEL = _Label()


def new_class_option(command: Command) -> Command:
    """Add --new-class to a verb that may make a class."""
    return click.option("--new-class", is_flag=True, help="Accept a label that looks like that of another class.")(
        command
    )


def _warn_of_look_alikes(labels: Sequence[str], known: set[str]) -> None:
    """Report new classes that look like another one."""
    from edgetl.bundle import distinguishable, look_alikes

    for similar in look_alikes(labels):
        if not known.issuperset(similar):
            names = " and ".join(map(distinguishable, similar))
            line = f"{names} count as different classes but look the same; if they are one, use: edgetl correct"
            echo(f"edgetl: {line}", err=True)


@examples(
    "edgetl teach leaves.edgetl mildew photo.jpg",
    "edgetl teach pi@raspberrypi.local mildew photos/mildew --guard 1",
)
@_verb_for_devices
@click.argument("label", type=LABEL)
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@new_class_option
@guard_option("the pictures are kept for later")
@click.option("--thumbnails", is_flag=True, help="Also keep small JPEGs, so that a later backbone can learn from them.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the interpreter.  [default: one per core]")
def teach(
    where: str,
    label: str,
    images: Sequence[str],
    new_class: bool,
    guard: Optional[float],
    thumbnails: bool,
    threads: Optional[int],
    state: Optional[Path],
    as_json: bool,
    **options: Any,
) -> None:
    """Teach a bundle, here or on a device, that images show LABEL.

    An IMAGE is a file or a folder of files. LABEL may be a new class. Without an IMAGE, the pictures of LABEL that the
    guard refused before are tried again. A device is any argument that is not a file and does not end in .edgetl; the
    pictures are sent to it, and not kept there.
    """
    from edgetl.runtime import iterate

    pictures = [found.image for source in images for found in iterate(source)]
    if is_bundle(where):
        from edgetl.runtime.device import teach_pictures

        require_here(**options)
        with open_learner(Path(where), state, threads=threads, thumbnails=thumbnails) as learner:
            result = teach_pictures(learner, iter(pictures) if pictures else None, label, guard, new_class).to_dict()
    else:
        from edgetl.deployment import teach as teach_device

        require_no_state(state)
        files = [picture for picture in pictures if isinstance(picture, Path)]
        if len(files) != len(pictures):
            raise OptionError("a device is sent files, received images on standard input; give their paths instead")
        with reach(where, **options) as transport, show_progress() as progress:
            result = teach_device(transport, label, files, guard, thumbnails, threads, progress, new_class).to_dict()
    for line in result["unreadable"]:
        echo(line, err=True)
    _print_result(result, as_json, _taught_line(result))


@examples("edgetl correct leaves.edgetl 12 healthy")
@_verb
@click.argument("picture", type=int)
@click.argument("label", type=LABEL)
@new_class_option
@guard_option("the picture keeps its label")
def correct(
    bundle: Path,
    picture: int,
    label: str,
    new_class: bool,
    guard: Optional[float],
    state: Optional[Path],
    as_json: bool,
) -> None:
    """Correct the label of PICTURE to LABEL.

    PICTURE is an id that edgetl history lists.
    """
    with open_learner(bundle, state) as learner:
        line = f"picture {picture} is now labelled '{label}'"
        _print_step(learner, learner.correct(picture, label, guard, new_class), as_json, line)


@examples("edgetl forget leaves.edgetl 12", "edgetl forget leaves.edgetl --class mildew")
@_verb
@click.argument("picture", type=int, required=False)
@click.option("--class", "label", type=LABEL, metavar="LABEL", help="Forget a whole class instead of one picture.")
@guard_option("nothing is forgotten")
def forget(
    bundle: Path,
    picture: Optional[int],
    label: Optional[str],
    guard: Optional[float],
    state: Optional[Path],
    as_json: bool,
) -> None:
    """Forget a picture or a class, as if it had never been taught.

    PICTURE is an id that edgetl history lists.
    """
    if (picture is None) == (label is None):
        raise OptionError("give either the id of a picture or --class LABEL; list the ids: edgetl history")
    with open_learner(bundle, state) as learner:
        if label is not None:
            _print_step(learner, learner.forget_class(label, guard), as_json, f"forgot class '{label}'")
        elif picture is not None:
            _print_step(learner, learner.forget(picture, guard), as_json, f"forgot picture {picture}")


@examples("edgetl rename leaves.edgetl mildew powdery-mildew")
@_verb
@click.argument("old", type=LABEL)
@click.argument("new", type=LABEL)
@new_class_option
def rename(bundle: Path, old: str, new: str, new_class: bool, state: Optional[Path], as_json: bool) -> None:
    """Rename class OLD to NEW."""
    with open_learner(bundle, state) as learner:
        _print_step(learner, learner.rename(old, new, new_class), as_json, f"renamed class '{old}' to '{new}'")


@examples("edgetl adapt leaves.edgetl --guard 1")
@_verb
@guard_option("nothing changes")
@click.option(
    "--leave-old", is_flag=True, help="Allow giving up the old conditions, which no longer occur, if that is better."
)
def adapt(bundle: Path, guard: Optional[float], leave_old: bool, state: Optional[Path], as_json: bool) -> None:
    """Adapt the classes of BUNDLE to changed conditions.

    Nothing changes unless it improves the accuracy on the pictures taught here. First teach some pictures of each class
    under the new conditions. The classes then cover old and new conditions alike; only if giving up the old ones is
    much better does what was shipped get a lower weight instead. edgetl undo reverts it. An adaptation is not merged
    into other devices.
    """
    with open_learner(bundle, state) as learner:
        step = learner.adapt(guard, leave_old)
        _print_step(learner, step, as_json, *_adapted_lines(step.adaptation))


@examples("edgetl undo leaves.edgetl")
@_verb
def undo(bundle: Path, state: Optional[Path], as_json: bool) -> None:
    """Undo the latest step that is in effect.

    The result is as if it had never been. Run it again to undo the step before.
    """
    with open_learner(bundle, state) as learner:
        step = learner.undo()
        undone = next(entry for entry in learner.history() if entry.id == step.subject)
        _print_step(learner, step, as_json, f"undid step {undone.step} ({undone.kind})")


@examples("edgetl reset leaves.edgetl")
@_verb
def reset(bundle: Path, state: Optional[Path], as_json: bool) -> None:
    """Return to what BUNDLE was shipped with.

    edgetl undo brings back what was taught.
    """
    with open_learner(bundle, state) as learner:
        _print_step(learner, learner.reset(), as_json, "returned to what was shipped; edgetl undo reverts this")


@examples("edgetl merge leaves.edgetl greenhouse.state", "edgetl merge leaves.edgetl a.patch b.patch --guard 1")
@_verb
@click.argument("sources", nargs=-1, required=True, metavar="STATE|PATCH...", type=click.Path(path_type=Path))
@guard_option("nothing is merged")
def merge(bundle: Path, sources: Sequence[Path], guard: Optional[float], state: Optional[Path], as_json: bool) -> None:
    """Merge what other devices were taught into BUNDLE.

    Give their state folders, or patches that they exported.
    """
    with open_learner(bundle, state) as learner:
        known = set(learner.labels)
        step = learner.merge(*sources, guard=guard)
        _warn_of_look_alikes(learner.labels, known)
        lost = f"; {step.not_carried} of another backbone, without a thumbnail, were not" if step.not_carried else ""
        _print_step(learner, step, as_json, f"{len(step.pictures)} pictures were merged{lost}")


@examples("edgetl history leaves.edgetl")
@_verb
def history(bundle: Path, state: Optional[Path], as_json: bool) -> None:
    """List every learning step, the oldest first, and its state."""
    with open_learner(bundle, state) as learner:
        entries = learner.history()
    if as_json:
        return print_json([entry.to_dict() for entry in entries])
    header = ["id", "step", "what", "label", "about", "state", "now", "time", "source"]
    print_table(header, [[_cell(value) for value in _row(entry)] for entry in entries])


@examples("edgetl status leaves.edgetl", "edgetl status pi@raspberrypi.local")
@_verb_for_devices
def status(where: str, state: Optional[Path], as_json: bool, **options: Any) -> None:
    """Report what a bundle was taught, and whether it sees drift.

    The bundle is here or on a device. A device is any argument that is not a file and does not end in .edgetl; for a
    device, its hardware and its service are reported too. For several devices: edgetl devices.
    """
    if is_bundle(where):
        require_here(**options)
        with open_learner(Path(where), state) as learner:
            found = learner.status().to_dict()
        return print_json(found) if as_json else _print_status(found)
    require_no_state(state)
    from edgetl.deployment import status as device_status

    with reach(where, **options) as transport:
        device = device_status(transport)
    if as_json:
        return print_json(device.to_dict())
    _print_device(where, device.inventory)
    if device.learned:
        _print_status(device.learned.to_dict())


def _print_device(where: str, device: DeviceInventory) -> None:
    running, service = device.running, device.service
    runs = f"{running.name or 'a damaged bundle'} {running.digest[:12]} runs" if running else "nothing runs"
    echo(f"{where}: {runs} on {device.board}, {device.machine.interpreter or 'without a TFLite interpreter'}")
    if running and running.fault:
        echo(f"{running.fault}; deploy it again")
    if service:
        restarts = f", {service.restarts} restarts" if service.restarts else ""
        echo(f"service: {service.state}{restarts}")
    if device.probation_seconds_left:
        echo(f"on probation for another {device.probation_seconds_left:.0f} s")
    if device.previous:
        echo(f"previous bundle: {device.previous[:12]}; return to it: edgetl rollback {where}")


def _print_status(found: Mapping[str, Any]) -> None:
    rows = [[label, str(count["shipped"]), str(count["taught"])] for label, count in found["pictures"].items()]
    print_table(["class", "shipped", "taught"], rows)
    forgotten = f"; forgotten: {', '.join(found['forgotten_classes'])}" if found["forgotten_classes"] else ""
    echo(
        f"{found['bundle']}, {found['steps']} steps, {found['pending']} pictures pending{forgotten}",
        f"{found['state']}: {found['size_bytes'] / 1e6:.1f} MB{'' if found['writable'] else ', read-only'}",
    )
    spanned, halvings = found.get("spanned", ()), found["halvings"]
    if spanned or halvings:
        echo(f"adapted: {_adapted(spanned, halvings)}")
    _print_drift(found["drift"])


def _print_step(learner: Learner, step: Step, as_json: bool, *lines: str) -> None:
    from edgetl.runtime.device import complete_step

    _print_result(complete_step(learner, step).to_dict(), as_json, *lines)


def _print_result(result: dict[str, Any], as_json: bool, line: str, *more: str) -> None:
    """Print what a step did and its effect; exit with REFUSED if the guard refused it."""
    if as_json:
        print_json(result)
    else:
        refusal = f"refused: this {result['kind']} would cost the known classes too much; nothing was changed"
        echo(f"step {result['id']}: {line}" if result["id"] else line if result["accepted"] else refusal, *more)
        echo(f"classes: {', '.join(result['labels'])}")
        if result["effect"]:
            _print_effect(result["effect"])
    if not result["accepted"]:
        raise SystemExit(REFUSED)


def _taught_line(result: Mapping[str, Any]) -> str:
    pictures = f"{len(result['pictures'])} picture{'s' if len(result['pictures']) != 1 else ''}"
    if result["accepted"]:
        return f"taught '{result['label']}' with {pictures}"
    return f"refused: {pictures} of '{result['label']}' would cost the known classes too much; kept for later"


def _adapted_lines(found: Optional[Adaptation]) -> list[str]:
    assert found is not None
    if not found.helps:
        return [
            f"nothing was changed: no adaptation is clearly better on the {found.pictures} pictures taught here "
            f"(accuracy {found.before:.1%}, leave-one-out)"
        ]
    return [
        f"accuracy on the {found.pictures} pictures taught here, leave-one-out: "
        f"{found.before:.1%} -> {found.after:.1%}",
        _adapted(found.spanned, found.halvings),
    ]


def _adapted(spanned: Sequence[str], halvings: Mapping[str, int]) -> str:
    weights = ", ".join(f"1/{2**count} for {label}" for label, count in halvings.items() if count)
    parts = [f"old and new conditions have equal weight for {', '.join(spanned)}"] if spanned else []
    parts += [f"what was shipped has weight {weights}"] if weights else []
    return "; ".join(parts) or "what was shipped has full weight again"


def _print_drift(drift: Mapping[str, Any]) -> None:
    echo(f"drift: {drift['verdict']} ({drift['pictures']} pictures classified since the latest step)")
    for name, signal in drift["signals"].items():
        echo(
            f"  {name} {signal['value']:.2f}: usual {signal['usual']:.2f}, drifting at {signal['drifting']:.2f}, "
            f"changed at {signal['changed']:.2f}"
        )


def _print_effect(described: dict[str, Any]) -> None:
    from edgetl.runtime.learning import Effect

    effect = Effect.from_dict(described)
    echo(f"known classes, on guard pictures: {0 - effect.cost_points:+.1f} points")
    for label in effect.losers:
        echo(f"  {label}: {effect.before[label]:.1%} -> {effect.after[label]:.1%}")
    for label, accuracy in effect.taught.items():
        echo(f"  {label}: {accuracy:.1%}, cross-validated on its own pictures")
    for rivalry in effect.rivalries:
        echo(f"  '{rivalry.rival}' now attracts {rivalry.pictures} pictures of '{rivalry.label}'")


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
