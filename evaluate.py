"""Evaluate a language model: `python evaluate.py run=outputs/… eval.sets=[math500]`. `--help` shows what can be set."""

from winnow import signals

if __name__ == "__main__":  # before the imports that take seconds
    signals.install()

from winnow.launch.programs import evaluation

if __name__ == "__main__":
    evaluation().main()
