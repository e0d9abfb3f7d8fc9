#!/bin/bash
# Nearly everything is decided by whoever calls it.
GPUS=${1:-all}
ARGS=(--rm --gpus "$GPUS" --shm-size "${SHM:-16g}" "$@")
docker run "${ARGS[@]}" "$IMAGE" "$CMD"
docker build -t "$IMAGE" . && docker push "$IMAGE"
