"""Record of a run, `run.json`: the run's id, and each start and resume with the settings and machine it computed on.

The id is made when the run begins. Checkpoints, `hashes.jsonl`, `summary.json` and the exported model's card carry it,
so that what another run left in the directory is not taken for this run's.
"""

import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from winnow._version import __version__
from winnow.files import parsed_json, read_regular, replace_json, sha256_of

RECORD = "run.json"
PACKAGES = ("torch", "transformers", "pytorch-lightning", "peft")
"""Packages that may decide the last bit of a result."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Versions and hardware of a part of a run. `threads` are torch's, `device` is cpu or the name of a GPU."""

    versions: dict[str, str]
    cpu: str
    threads: int
    device: str

    def differences(self, other: "Machine") -> list[str]:
        """Differences from `other` in words, such as `torch 2.11.0, not 2.12.0`: this machine's first."""
        hardware = [("CPU", self.cpu, other.cpu), ("threads", str(self.threads), str(other.threads))]
        hardware.append(("device", self.device, other.device))
        differing = [f"{name} {mine}, not {theirs}" for name, mine, theirs in hardware if mine != theirs]
        return self.other_versions(other) + differing

    def other_versions(self, other: "Machine") -> list[str]:
        """Those of the differences that are of versions."""
        names = sorted({*self.versions, *other.versions})
        pairs = [(name, self.versions.get(name), other.versions.get(name)) for name in names]
        return [f"{name} {mine}, not {theirs}" for name, mine, theirs in pairs if mine != theirs]


@dataclass(frozen=True, slots=True)
class Start:
    """A start or resume of a run, which goes on after iteration `after`.

    `configuration` holds the SHA-256 of each file in `.hydra/`, and `changed` a line for each setting that differs from
    the start before. `earlier` is the folder, inside the run directory, with the configuration that held until then.
    `problems` is the hash of the training problems; None where they are made on demand. `revisions` are the commits of
    the hub datasets that were read, as `OWNER/NAME@COMMIT`, and `code` is that of the plug-ins, as `code_of` gives it.
    `ranks` is the number of processes; None in records of earlier versions.
    """

    after: int
    at: str
    configuration: dict[str, str]
    machine: Machine | None = None
    changed: tuple[str, ...] = ()
    earlier: str | None = None
    problems: str | None = None
    revisions: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    ranks: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run. `starts` are in order and none goes on after an iteration before the last one's."""

    run: str
    program: str
    starts: tuple[Start, ...] = field(default_factory=tuple)

    @property
    def changes(self) -> list[str]:
        """A line for each setting that a resume changed: `after iteration 40: optim.lr was 1e-06 and is 0.0007`."""
        return [f"after iteration {start.after}: {line}" for start in self.starts for line in start.changed]


def new_record(program: str) -> RunRecord:
    """A record with a new id: sixteen hexadecimal digits."""
    return RunRecord(secrets.token_hex(8), program)


def read_record(directory: Path) -> RunRecord | None:
    """The record of the run in `directory`; None if there is none that can be read, as in runs of earlier versions."""
    try:
        content = parsed_json(read_regular(directory / RECORD))
        if not isinstance(content, dict):
            return None
        return RunRecord(str(content["run"]), str(content["program"]), tuple(map(_start, content["starts"])))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_record(directory: Path, record: RunRecord) -> None:
    """Write `run.json` atomically."""
    replace_json(directory / RECORD, {"schema": 1, **asdict(record)})


def run_id(directory: Path) -> str | None:
    """The id of the run in `directory`, if it has one."""
    record = read_record(directory)
    return None if record is None else record.run


def _start(content: Mapping[str, object]) -> Start:
    code = content.get("code", {})
    if not isinstance(code, dict):
        raise TypeError
    fields = dict(content) | {
        "changed": tuple(map(str, _list(content["changed"]))),
        "code": {str(name): str(of_file) for name, of_file in code.items()},
    }
    machine = content["machine"]
    return Start(**fields | {"machine": Machine(**machine) if isinstance(machine, dict) else None})  # pyright: ignore


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError
    return value


def this_machine(threads: int, device: str) -> Machine:
    """The machine and the versions of this process."""
    versions = {"python": platform.python_version(), "winnow": __version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an optional package
            continue
    return Machine(versions, _cpu_model(), threads, device)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def configuration_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each YAML file directly in `folder`, by name; empty if there is no such folder."""
    paths = sorted(folder.glob("*.yaml"))
    return {path.name: sha256_of(path) for path in paths if path.is_file()}


def edited_configuration(record: RunRecord, found: Mapping[str, str]) -> list[str]:
    """A sentence for each file of the configuration, given by its hash, that no start of the run has written.

    A resume that is killed while it writes the files leaves some of its own and some of the start before.
    """
    written: dict[str, set[str]] = {}
    for start in record.starts:
        for name, of_file in start.configuration.items():
            written.setdefault(name, set()).add(of_file)
    return [f"{name} was edited" for name, of_file in found.items() if of_file not in written.get(name, {of_file})]
