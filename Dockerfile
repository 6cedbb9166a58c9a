# Winnow in a container. The image for a CPU, and the README's first command in it:
#   docker build -t winnow . && docker run winnow
# The one for CUDA GPUs (the driver is the host's), and the README's second command:
#   docker build -t winnow-cuda --build-arg DEVICE=cuda . && docker run --gpus all winnow-cuda python train.py algo=grpo model=qwen
FROM python:3.12-slim
ARG DEVICE=cpu
# Of torch, pip takes the build with CUDA's libraries, which runs on CPUs too. Where an index has a smaller one for CPUs
# alone, name that index: --build-arg PIP_EXTRA_INDEX_URL=…
ARG PIP_EXTRA_INDEX_URL=
# CUDA's kernels by Triton (hardware.compile, FlexAttention) are compiled by gcc.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make $(test "$DEVICE" != cuda || echo gcc libc6-dev) \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /winnow
COPY . .
RUN make .venv/installed
# `source .venv/bin/activate`, for all commands in the container
ENV PATH=/winnow/.venv/bin:$PATH WANDB_MODE=offline
CMD ["make", "demo"]
