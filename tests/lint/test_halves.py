"""Files as they are while somebody writes them: half a line, a line too few, a line twice."""

import pytest

from gpudoctor.launch import merge
from gpudoctor.lint import compose, dockerfile, kubernetes
from gpudoctor.lint.predict import predict
from gpudoctor.lint.source import BadLaunch, Source, edited
from gpudoctor.lint.yaml_text import documents
from tests.launch.examples import TOGETHER

COMPOSE = """\
x-base: &base
  ulimits: {memlock: -1}
services:
  train:
    <<: *base
    image: "x:${TAG:-1}"  # a tag
    shm_size: 64m
    environment:
      - NCCL_DEBUG=INFO
      - HOME
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 4
              capabilities: [gpu]
    command: >
      torchrun --nproc-per-node 4
      train.py
  other: {image: y, tmpfs: /tmp}
"""
MANIFEST = """\
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  template:
    spec: &pod
      hostNetwork: true
      containers:
        - name: main
          image: 'x'
          command: [torchrun, "train.py"]
          env:
            # of the job
            - {name: NCCL_DEBUG, value: INFO}
            - name: TOKEN
              valueFrom: {secretKeyRef: {name: a, key: b}}
          resources:
            limits: {nvidia.com/gpu: 8, memory: 64Gi}
          volumeMounts:
            - name: dshm
              mountPath: /dev/shm
      volumes:
        - {name: dshm, emptyDir: {medium: Memory}}
---
{apiVersion: v1, kind: Pod, spec: *pod}
"""
DOCKERFILE = """\
# escape=\\
ARG TAG=1
FROM x:${TAG} AS base
ENV A=1 \\
    # why
    B="2 3" C='4'
RUN <<EOF
ENV D=5
EOF
FROM base
USER 1000
ENTRYPOINT ["torchrun", "--nproc-per-node=4"]
CMD train.py
"""
FILES = {
    "compose": (compose.read, COMPOSE),
    "manifest": (kubernetes.read, MANIFEST),
    "Dockerfile": (dockerfile.read, DOCKERFILE),
}


def halves(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    return [
        *(text[:end] for end in range(len(text))),
        *("".join([*lines[:n], *lines[n + 1 :]]) for n in range(len(lines))),
        *("".join([*lines[: n + 1], *lines[n:]]) for n in range(len(lines))),
        *("".join([*lines[:n], " ", *lines[n:]]) for n in range(len(lines))),
    ]


@pytest.mark.parametrize("name", FILES)
def test_half_a_file_is_refused_or_corrected(name):
    read, text = FILES[name]
    refused = []
    for half in halves(text):
        source = Source(name, half)
        try:
            present = read(source)
        except BadLaunch as error:
            refused.append(str(error))
            continue
        for found in present:
            predict(found.launch, "x")
            corrected = edited(source, found.edits(merge(TOGETHER)))
            if name != "Dockerfile":
                documents(Source(name, corrected))

    assert 0 < len(refused) < len(halves(text))
    assert all(why.startswith("line ") for why in refused)
