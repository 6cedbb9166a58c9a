"""Post-train a language model with verifiable rewards: `python train.py algo=grpo`. `--help` shows what can be set."""

from winnow import signals

if __name__ == "__main__":  # before the imports that take seconds
    signals.install()

from winnow.launch.programs import training

if __name__ == "__main__":
    training().main()
