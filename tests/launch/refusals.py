"""Commands that are wrong, tried one after the other in one process: how each ends, and what it leaves behind.

`python refusals.py CASES.json` in an empty directory prints a JSON row for each; `test_wrong_inputs.py` reads them.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HEAVY = ("torch", "transformers", "pytorch_lightning")


@dataclass(frozen=True)
class Refusal:
    """The end of a command: its exit code, or the last line of a traceback.

    `said` are the lines on standard error, and `changed` the files that are others than before. `imported` are those of
    `HEAVY` that had been imported by then, by this command or an earlier one.
    """

    code: int | str
    said: list[str]
    changed: list[str]
    imported: list[str]
    seconds: float


def write_files() -> None:
    """Files in the working directory that the commands name."""

    def rows(count: int) -> str:
        return "".join(json.dumps({"problem": f"{n}+1", "answer": str(n + 1), "level": n}) + "\n" for n in range(count))

    texts = {
        "sums.jsonl": rows(20),
        "empty.jsonl": "",
        "broken.jsonl": rows(3) + "{not json\n",
        "unreadable.jsonl": rows(3) + json.dumps({"problem": "1+2", "answer": "\\frac{1}{"}) + "\n",
        "capitals.jsonl": rows(3) + json.dumps({"problem": "of Japan?", "answer": "東京"}) + "\n",
        "unlabelled.jsonl": '{"problem": "1+1"}\n{"problem": "1+2"}\n',
        "cases.jsonl": '{"gold": "1", "pred": "1"}\n',
        "wrong_cases.jsonl": '{"gold": "1", "pred": "1"}\n{"gold": 1}\n',
        "README.md": "Mine.\n",
        "folder/mine.txt": "Mine.\n",
        "bert/config.json": '{"model_type": "bert", "architectures": ["BertForMaskedLM"]}',
        "bert/model.safetensors": "",
        "bert/tokenizer.json": "{}",
        "adapter/adapter_config.json": "{}",
        "ended/.hydra/config.yaml": "seed: 0\nalgo: {_target_: winnow.algorithm.Supervised}\n",
        "ended/.hydra/hydra.yaml": "hydra: {job: {name: train}, runtime: {choices: {algo: grpo}, config_sources: []}}",
        "ended/.hydra/overrides.yaml": "[]\n",
        "ended/summary.json": '{"status": "done"}\n',
        "ended/metrics.jsonl": '{"iteration": 1}\n{"iteration": 2\n{"iteration": 3}\n',
    }
    for name, text in texts.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    os.mkfifo("pipe.jsonl")


def contents() -> dict[str, bytes | None]:
    """Every file and folder below the working directory."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def refused(words: Sequence[str]) -> Refusal:
    """Run `train.py WORDS`, or `winnow WORDS` where the first is `winnow`, in a directory of its own."""
    from winnow import cli
    from winnow.launch import programs

    shutil.rmtree("here", ignore_errors=True)
    Path("here").mkdir()
    os.chdir("here")
    write_files()
    before, error = contents(), io.StringIO()
    began = time.process_time()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            if words[0] == "winnow":
                code: int | str = cli.exit_code(words[1:])
            else:
                train = replace(programs.training(), run=lambda cfg, directory: None)
                code = train.exit_code([*words, *([] if "logger" in " ".join(words) else ["logger=none"])])
        except Exception:
            code = traceback.format_exc().splitlines()[-1]
    seconds, after = time.process_time() - began, contents()
    os.chdir("..")
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path, 0) != after.get(path, 0))
    return Refusal(code, error.getvalue().splitlines(), changed, [m for m in HEAVY if m in sys.modules], seconds)


if __name__ == "__main__":
    for case in json.loads(Path(sys.argv[1]).read_text()):
        print(json.dumps(vars(refused(case))), flush=True)
