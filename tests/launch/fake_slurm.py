"""Stand-in for SLURM's commands on one machine, as far as submitit uses them: arrays, signals and requeuing.

`install(FOLDER)` writes sbatch, srun, sacct, scontrol and scancel, which keep their state beside them. Every start of a
task is a line of `FOLDER/starts`: the task, and how many ran then.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scontrol", "scancel")
JOB = "4711"


def install(folder: Path) -> None:
    folder.mkdir()
    for name in COMMANDS:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} {name} "$@"\n')
        path.chmod(0o755)


def sbatch(folder: Path, script: str) -> None:
    """Start a process that runs the tasks of the array, and say its number at once."""
    text = Path(script).read_text()
    (folder / "script").write_text(text)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # else submitit would wait for the end of it
    subprocess.Popen([sys.executable, __file__, str(folder), "run"], start_new_session=True, **quiet)
    print(f"Submitted batch job {JOB}")


def run(folder: Path) -> None:
    text = (folder / "script").read_text()
    array = re.search(r"--array='?0-(\d+)%(\d+)", text)
    last, at_once = (int(array[1]), int(array[2])) if array else (0, 1)
    waiting = [f"{JOB}_{n}" if array else JOB for n in range(last + 1)]
    running: dict[str, subprocess.Popen[bytes]] = {}
    for task in waiting:
        (folder / f"{task}.state").write_text("PENDING")
    while waiting or running:
        while waiting and len(running) < at_once:
            task = waiting.pop(0)
            running[task] = start(folder, task)
            with (folder / "starts").open("a") as starts:
                starts.write(f"{task} {len(running)}\n")
        for task, process in list(running.items()):
            if process.poll() is not None:
                del running[task]
                requeued = folder / f"{task}.requeue"
                (folder / f"{task}.state").write_text("PENDING" if requeued.exists() else "COMPLETED")
                if requeued.exists():
                    requeued.unlink()
                    waiting.append(task)
        time.sleep(0.05)


def start(folder: Path, task: str) -> "subprocess.Popen[bytes]":
    job, _, number = task.partition("_")
    one = {
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    array = {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": number} if number else {}
    environment = os.environ | one | array | {"SLURM_JOB_ID": str(int(job) + int(number or 0))}
    process = subprocess.Popen(["bash", str(folder / "script")], env=environment, start_new_session=True)
    (folder / f"{task}.pid").write_text(str(process.pid))
    (folder / f"{task}.state").write_text("RUNNING")
    return process


def srun(folder: Path, *words: str) -> None:
    at = next(n for n, word in enumerate(words) if word.endswith("python") or "/python" in word)
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}
    os.execvpe(words[at], list(words[at:]), os.environ | step)


def sacct(folder: Path, *words: str) -> None:
    print("JobID|State|NodeList")
    for state in sorted(folder.glob("*.state")):
        print(f"{state.stem}|{state.read_text()}|here")


def scontrol(folder: Path, verb: str, task: str) -> None:
    (folder / f"{task}.requeue").touch()


def scancel(folder: Path, *words: str) -> None:
    """Signal all processes of a running task, the run's too, as SLURM does."""
    task, [option] = words[-1], [*(word for word in words if word.startswith("--")), ""][:1]
    if option.startswith("--state"):
        return
    number = getattr(signal, "SIG" + option.partition("=")[2]) if option else signal.SIGTERM
    first = int((folder / f"{task}.pid").read_text())
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[3]) == first and int(status.parent.name) != first:  # of its session, but for the script
                os.kill(int(status.parent.name), number)
        except (FileNotFoundError, ProcessLookupError):
            continue


if __name__ == "__main__":
    folder, name, *words = sys.argv[1:]
    globals()[name](Path(folder), *words)
