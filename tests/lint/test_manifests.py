"""Manifests from end to end: what is found, and that the corrected file is well."""

import pytest

from gpudoctor.lint.source import edited

from .linted import lint, trouble


def pod(spec: str, container: str = "", gpus: int = 8) -> str:
    return f"""\
apiVersion: v1
kind: Pod
metadata: {{name: train}}
spec:
{spec}  restartPolicy: Never
  containers:
    - name: main
      image: nvcr.io/nvidia/pytorch:25.01-py3
      command: [torchrun, --nproc-per-node={gpus}, --nnodes=1, train.py]
      resources:
        limits: {{nvidia.com/gpu: {gpus}, memory: 64Gi}}
{container}"""


DSHM = "  volumes: [{{name: dshm, emptyDir: {{{}}}}}]\n"
AT_SHM = "      volumeMounts: [{name: dshm, mountPath: /dev/shm}]\n"
MEMORY = DSHM.format("medium: Memory, sizeLimit: 16Gi")

JOB = """\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: resnet}
spec:
  nprocPerNode: "8"
  pytorchReplicaSpecs:
    Master: &replica
      replicas: 1
      restartPolicy: OnFailure
      template:
        spec:
          hostNetwork: true
          containers:
            - name: pytorch
              image: nvcr.io/nvidia/pytorch:25.01-py3
              command: [torchrun, train.py]
              resources:
                limits: {nvidia.com/gpu: 8}
              volumeMounts:
                - name: shm
                  mountPath: /dev/shm
          volumes:
            - name: shm
              emptyDir: {medium: Memory}
    Worker:
      <<: *replica
      replicas: 3
"""
SET = """\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: set}
spec:
  replicatedJobs:
    - name: workers
      template:
        spec:
          parallelism: 4
          completions: 4
          template:
            spec:
              hostNetwork: true
              dnsPolicy: ClusterFirstWithHostNet
              containers:
                - name: main
                  image: rocm/pytorch:latest
                  command: [torchrun, --nnodes=4, --nproc-per-node=8, train.py]
                  resources:
                    limits: {amd.com/gpu: 8, memory: 512Gi}
                  volumeMounts: [{name: shm, mountPath: /dev/shm}]
              volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 64Gi}}]
"""
HELM = """\
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}
spec:
  {{- with .Values.volumes }}
  volumes: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: main
      image: nvcr.io/nvidia/pytorch:{{ .Values.tag }}
      command: [torchrun, --nproc-per-node=8, train.py]
      resources: {{- toYaml .Values.resources | nindent 8 }}
"""
TRAIN_JOB = """\
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata: {name: train}
spec:
  runtimeRef: {name: torch-distributed}
  trainer:
    numNodes: 2
    numProcPerNode: 8
    image: nvcr.io/nvidia/pytorch:25.01-py3
    env: [{name: NCCL_IB_DISABLED, value: "1"}]
    resourcesPerNode: {limits: {nvidia.com/gpu: 4}}
"""

BAD = {
    "no shm": (pod(""), {"shm-size": "fail"}),
    "shm on a disk": (pod(DSHM.format(""), AT_SHM), {"launch-shm": "warn"}),
    "shm defined, not mounted": (pod(MEMORY), {"shm-size": "fail"}),
    "shm beyond the memory limit": (
        pod(DSHM.format("medium: Memory, sizeLimit: 256Gi"), AT_SHM),
        {"shm-cgroup": "warn"},
    ),
    "shm too small": (
        pod(DSHM.format("medium: Memory, sizeLimit: 64Mi"), AT_SHM),
        {"shm-size": "fail"},
    ),
    "more ranks than GPUs": (
        pod(MEMORY, AT_SHM).replace("gpu: 8", "gpu: 4"),
        {"launch-ranks": "fail"},
    ),
    "PyTorchJob": (JOB, {"launch-network": "fail", "launch-shm": "warn"}),
    "a slip": (pod(f"{MEMORY}  hostNetwrok: true\n", AT_SHM), {"launch-flags": "fail"}),
    "TrainJob": (TRAIN_JOB, {"launch-ranks": "fail", "nccl-environment": "warn"}),
}
GOOD = {
    "shm in memory": pod(MEMORY, AT_SHM),
    "shm as large as the limit": pod(DSHM.format("medium: Memory"), AT_SHM),
    "the host's IPC": pod("  hostIPC: true\n"),
    "the host's network, one node": pod(f"  hostNetwork: true\n{MEMORY}", AT_SHM),
    "JobSet": SET,
    "volumes that JobSet adds": SET.replace(
        "mountPath: /dev/shm}", "mountPath: /dev/shm}, {name: ours, mountPath: /ours}"
    ),
    "a template": HELM,
    "a template's expression first": f"{{{{- if .Values.train }}}}\n{HELM}{{{{- end }}}}\n",
    "what looks after GPUs": """\
apiVersion: apps/v1
kind: DaemonSet
spec:
  template:
    spec:
      hostNetwork: true
      containers: [{name: x, image: "nvcr.io/nvidia/k8s/dcgm-exporter:4.1"}]
""",
    "what shows that there are GPUs": pod("", gpus=1)
    .replace("pytorch:25.01-py3", "k8s/cuda-sample:vectoradd")
    .replace("      command: [torchrun, --nproc-per-node=1, --nnodes=1, train.py]\n", ""),
    "keys of KServe beside a pod's": """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
spec: {predictor: {minReplicas: 1, containers: [{name: x, image: sklearn, extra: 1}]}}
""",
    "no training": "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: db, image: postgres}]}\n",
    "TrainJob": TRAIN_JOB.replace("numProcPerNode: 8", "numProcPerNode: 4").replace("D, v", ", v"),
    "PyTorchJob": JOB.replace("Network: true", "Network: false").replace(
        "Memory}", "Memory, sizeLimit: 8Gi}"
    ),
}
MENDED_BY_HAND = {"nccl-environment"}  # whether the name or its value is wrong


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    text, expected = BAD[name]

    assert trouble(text, "train.yaml") == expected


@pytest.mark.parametrize("name", BAD)
def test_what_is_corrected_is_well(name):
    text, _ = BAD[name]
    _, judged = lint(text, "train.yaml")
    edits = [edit for launch in judged for edit in launch.edits]

    corrected = edited(judged[0].source, edits)

    assert trouble(corrected, "train.yaml").keys() <= MENDED_BY_HAND


@pytest.mark.parametrize("name", GOOD)
def test_good(name):
    assert trouble(GOOD[name], "train.yaml") == {}


def test_findings_stand_at_their_lines():
    report, _ = lint(JOB, "train.yaml")

    lines = {r.id: r.place.line for r in report.results if r.place and r.status.value != "skip"}
    assert (lines["launch-network"], lines["launch-shm"]) == (12, 24)


MPI = """\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {{name: bench}}
spec:
  slotsPerWorker: 8
{more}  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          containers:
            - {{name: l, image: mpioperator/nccl, command: [mpirun, -np, "16", all_reduce_perf]}}
    Worker:
      replicas: 2
      template:
        spec:
          containers:
            - {{name: w, image: mpioperator/nccl, resources: {{limits: {{nvidia.com/gpu: 8}}}}}}
"""


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        pytest.param("", [17], id="elsewhere"),
        pytest.param("  runLauncherAsWorker: true\n", [12, 18], id="beside it as well"),
    ],
)
def test_the_launcher_of_mpi_is_judged_where_it_trains(more, lines):
    report, _ = lint(MPI.format(more=more), "mpi.yaml")

    assert [r.place.line for r in report.results if r.status.value == "fail"] == lines
