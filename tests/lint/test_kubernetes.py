"""Manifests: what each container says, and the manifest with corrections."""

from typing import Any

import pytest
import yaml
from kubernetes_validate import validate

from gpudoctor.facts.launch import Launch, LaunchMount
from gpudoctor.launch import merge
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Group,
    HostNetwork,
    IpcHost,
    Memlock,
    Memory,
    Mount,
    RdmaDevices,
    ShmSize,
    Stack,
)
from gpudoctor.lint.kubernetes import quantity, read
from gpudoctor.lint.source import BadLaunch, Source, edited
from tests.launch.examples import EVERY, TOGETHER, spelled

MIB, GIB = 1 << 20, 1 << 30
VERSION = "1.33"

HEAD = """\
apiVersion: v1
kind: Pod
metadata: {name: train}
spec:
"""


def pod(spec: str, container: str) -> Launch:
    """A pod of these lines; those of the container are indented by six."""
    text = f"{HEAD}{spec}  containers:\n    - name: main\n{container}"
    (found,) = read(Source("pod.yaml", text))
    return found.launch


def said(launch: Launch) -> dict[str, Any]:
    plain = Launch(form="Kubernetes container", launcher="kubernetes", name="Pod train/main")
    fields = [name for name in Launch.__struct_fields__ if name != "lines"]
    return {n: getattr(launch, n) for n in fields if getattr(launch, n) != getattr(plain, n)}


def limits(text: str) -> str:
    return f"      resources: {{limits: {{{text}}}}}\n"


DSHM = "  volumes: [{name: dshm, emptyDir: {medium: Memory, sizeLimit: 8Gi}}]\n"
AT_SHM = "      volumeMounts: [{name: dshm, mountPath: /dev/shm}]\n"


@pytest.mark.parametrize(
    ("spec", "container", "expected"),
    [
        pytest.param("", "", {}, id="nothing"),
        pytest.param(
            DSHM,
            AT_SHM,
            {
                "shm_bytes": 8 * GIB,
                "mounts": (LaunchMount(target="/dev/shm", tmpfs=True, tmpfs_bytes=8 * GIB),),
            },
            id="shm",
        ),
        pytest.param(DSHM, "", {}, id="shm, not mounted"),
        pytest.param(
            "  volumes: [{name: dshm, emptyDir: {medium: Memory}}]\n",
            AT_SHM,
            {
                "mounts": (LaunchMount(target="/dev/shm", tmpfs=True),),
                "open_fields": ("shm_bytes",),
            },
            id="shm without a size",
        ),
        pytest.param(
            "  volumes: [{name: dshm, emptyDir: {}}]\n",
            AT_SHM,
            {
                "mounts": (LaunchMount(target="/dev/shm", source="emptyDir"),),
                "open_fields": ("shm_bytes",),
            },
            id="shm on a disk",
        ),
        pytest.param(
            "  volumes: [{name: dshm, hostPath: {path: /dev/shm}}]\n",
            AT_SHM,
            {
                "mounts": (LaunchMount(target="/dev/shm", source="/dev/shm"),),
                "open_fields": ("shm_bytes",),
            },
            id="the host's shm",
        ),
        pytest.param(
            "  volumes: [{name: other, emptyDir: {}}]\n",
            AT_SHM,
            {
                "refused": {"volume dshm": 'volumeMounts: Not found: "dshm"'},
                "open_fields": ("shm_bytes",),
            },
            id="a volume that is not there",
        ),
        pytest.param(
            "",
            AT_SHM,
            {
                "refused": {"volume dshm": 'volumeMounts: Not found: "dshm"'},
                "open_fields": ("shm_bytes",),
            },
            id="no volumes at all",
        ),
        pytest.param(
            "  hostIPC: true\n  hostNetwork: true\n  dnsPolicy: Default\n",
            "",
            {"ipc": "host", "network": "host", "dns_policy": "Default"},
            id="the host's namespaces",
        ),
        pytest.param("  hostNetwork: false\n", "", {}, id="false is false"),
        pytest.param(
            "",
            limits('nvidia.com/gpu: "8", memory: 64Gi, cpu: 1500m'),
            {"gpus": 8, "gpu_vendor": "nvidia", "memory_bytes": 64 * GIB, "cpus": 1.5},
            id="limits",
        ),
        pytest.param(
            "", limits("amd.com/gpu: 4"), {"gpus": 4, "gpu_vendor": "amd"}, id="AMD's GPUs"
        ),
        pytest.param(
            "",
            limits("nvidia.com/mig-3g.40gb: 2, rdma/hca_shared_devices_a: 1"),
            {"gpus": 2, "gpu_vendor": "nvidia", "devices": ("/dev/infiniband",)},
            id="MIG and RDMA",
        ),
        pytest.param(
            "",
            limits("vpc.amazonaws.com/efa: 4"),
            {"devices": ("/dev/infiniband",)},
            id="EFA",
        ),
        pytest.param(
            "",
            limits("nvidia.com/gpu: 0.5"),
            {"refused": {"nvidia.com/gpu: 0.5": "must be an integer"}, "open_fields": ("gpus",)},
            id="half a GPU",
        ),
        pytest.param(
            "",
            limits("nvidia.com/gpu: $GPUS, memory: MEMORY, cpu: '${CPUS}'"),
            {
                "open_fields": ("gpus", "memory_bytes", "cpus"),
                "open_words": ("$GPUS", "MEMORY", "${CPUS}"),
            },
            id="to be filled in",
        ),
        pytest.param(
            "",
            "      resources: {requests: {nvidia.com/gpu: 1}}\n",
            {
                "refused": {
                    "requests: nvidia.com/gpu": "Limit must be set for non overcommitable resources"
                },
                "open_fields": ("gpus",),
            },
            id="a request for GPUs without a limit",
        ),
        pytest.param(
            "",
            "      resources: {requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 2}}\n",
            {
                "gpus": 2,
                "gpu_vendor": "nvidia",
                "refused": {
                    "requests: nvidia.com/gpu": "must be equal to nvidia.com/gpu limit of 2"
                },
            },
            id="a request that is not the limit",
        ),
        pytest.param(
            "",
            "      resources: {claims: [{name: gpu}]}\n",
            {"open_fields": ("gpus",)},
            id="a claim",
        ),
        pytest.param(
            "",
            "      env: [{name: A, value: '1'}, {name: B, valueFrom: {}}, {name: C, value: $(A)}]\n"
            "      envFrom: [{configMapRef: {name: x}}]\n",
            {
                "environment": {"A": "1"},
                "open_fields": ("environment.*", "environment.B", "environment.C"),
                "open_words": ("envFrom",),
            },
            id="environment",
        ),
        pytest.param(
            "",
            "      command: [torchrun, --nproc-per-node=4]\n      args: [train.py]\n",
            {
                "command": ("torchrun", "--nproc-per-node=4", "train.py"),
                "ranks": 4,
                "nodes": 1,
                "starter": "torchrun",
            },
            id="a command",
        ),
        pytest.param(
            "  securityContext: {runAsUser: 1000, fsGroup: 2000, supplementalGroups: [44]}\n",
            "      securityContext: {privileged: true, capabilities: {add: [IPC_LOCK]}}\n",
            {
                "privileged": True,
                "user": "1000",
                "capabilities": ("IPC_LOCK",),
                "groups": ("44", "2000"),
            },
            id="rights",
        ),
        pytest.param(
            "",
            "      ports: [{containerPort: 29500}, {containerPort: 80, hostPort: 8080}]\n",
            {"ports": ("8080:80",)},
            id="ports of the host",
        ),
        pytest.param(
            "  hostNetwrok: true\n",
            "      shmSize: 1Gi\n",
            {"unknown": ("hostNetwrok", "shmSize")},
            id="slips",
        ),
    ],
)
def test_container(spec, container, expected):
    assert said(pod(spec, container)) == expected


def manifest(text: str) -> list[Launch]:
    return [found.launch for found in read(Source("job.yaml", text))]


TEMPLATE = """{containers: [{name: pytorch, image: x, command: [torchrun, train.py],
  resources: {limits: {nvidia.com/gpu: 8}}}]}"""


@pytest.mark.parametrize(
    ("text", "name", "nodes", "ranks"),
    [
        pytest.param(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: t-}\n"
            "spec: {completions: 4, parallelism: 4, completionMode: Indexed, template: "
            f"{{spec: {TEMPLATE}}}}}\n",
            "Job t-/pytorch",
            4,
            1,
            id="indexed Job",
        ),
        pytest.param(
            f"apiVersion: apps/v1\nkind: StatefulSet\nspec: {{template: {{spec: {TEMPLATE}}}}}\n",
            "StatefulSet pytorch",
            1,
            1,
            id="StatefulSet",
        ),
        pytest.param(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: n}\n"
            f"spec: {{jobTemplate: {{spec: {{template: {{spec: {TEMPLATE}}}}}}}}}\n",
            "CronJob n/pytorch",
            1,
            1,
            id="CronJob",
        ),
        pytest.param(
            "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {name: n}\n"
            "spec: {nprocPerNode: '8', pytorchReplicaSpecs: {Worker: {replicas: 4, template: "
            f"{{spec: {TEMPLATE}}}}}}}}}\n",
            "PyTorchJob n/Worker/pytorch",
            4,
            8,
            id="PyTorchJob",
        ),
        pytest.param(
            "apiVersion: kubeflow.org/v2beta1\nkind: MPIJob\nmetadata: {name: n}\n"
            "spec: {slotsPerWorker: 8, mpiReplicaSpecs: {Worker: {replicas: 2, template: "
            f"{{spec: {TEMPLATE}}}}}, Launcher: {{replicas: 1}}}}}}\n",
            "MPIJob n/Worker/pytorch",
            2,
            8,
            id="MPIJob",
        ),
        pytest.param(
            "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata: {name: n}\n"
            "spec: {replicatedJobs: [{name: workers, replicas: 2, template: {spec: {parallelism: 4,"
            f" template: {{spec: {TEMPLATE}}}}}}}}}]}}\n",
            "JobSet n/workers/pytorch",
            8,
            1,
            id="JobSet",
        ),
        pytest.param(
            "apiVersion: trainer.kubeflow.org/v1alpha1\nkind: TrainJob\nmetadata: {name: n}\n"
            "spec: {runtimeRef: {name: torch}, trainer: {numNodes: 2, numProcPerNode: 4, "
            "image: x, resourcesPerNode: {limits: {nvidia.com/gpu: 4}}}}\n",
            "TrainJob n/trainer",
            2,
            4,
            id="TrainJob",
        ),
        pytest.param(
            "apiVersion: trainer.kubeflow.org/v1alpha1\nkind: ClusterTrainingRuntime\n"
            "metadata: {name: n}\nspec: {mlPolicy: {numNodes: 3}, template: {spec: "
            "{replicatedJobs: [{name: node, template: {spec: {template: "
            f"{{spec: {TEMPLATE}}}}}}}}}]}}}}}}\n",
            "ClusterTrainingRuntime n/node/pytorch",
            3,
            1,
            id="training runtime",
        ),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: n}, "
            f"spec: {TEMPLATE}}}]\n",
            "Pod n/pytorch",
            1,
            1,
            id="List",
        ),
        pytest.param(
            '{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]}}',
            "Pod c",
            None,
            None,
            id="JSON",
        ),
    ],
)
def test_kinds(text, name, nodes, ranks):
    (launch,) = manifest(text)

    assert (launch.name, launch.nodes, launch.ranks) == (name, nodes, ranks)


def test_replicas_to_be_filled_in():
    (launch,) = manifest(
        "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nspec: {pytorchReplicaSpecs: {Worker: "
        f"{{replicas: $NODES, template: {{spec: {TEMPLATE}}}}}}}}}\n"
    )

    assert (launch.nodes, launch.ranks) == (None, 8)
    assert launch.open_fields == ("nodes",)


def test_a_trainjob_leaves_the_rest_to_its_runtime():
    (launch,) = manifest(
        "apiVersion: trainer.kubeflow.org/v1alpha1\nkind: TrainJob\nmetadata: {name: n}\n"
        "spec: {trainer: {image: x, resourcesPerNode: {limits: {nvidia.com/gpu: 4}}}}\n"
    )

    assert launch.knows("gpus", "image")
    assert not launch.knows("shm_bytes")
    assert not launch.knows("network")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nspec: {pytorchReplicaSpecs: "
            "{Worker: {template: {spec: {containers: [{name: main, image: x}]}}}}}\n",
            {"containers of Worker": "There is no container named pytorch in Worker"},
        ),
        (
            f"apiVersion: batch/v1\nkind: Job\nspec: {{template: {{spec: {TEMPLATE}}}}}\n",
            {"restartPolicy": 'Required value: valid values: "OnFailure", "Never"'},
        ),
        (
            "apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: "
            "{restartPolicy: Never, containers: [{name: main}]}}}\n",
            {},
        ),
        (f"apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {TEMPLATE}\n", {}),
        (f"apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nspec: {TEMPLATE}\n", {}),
    ],
    ids=["name", "no policy", "a policy", "another's Job", "JobSet"],
)
def test_what_operators_refuse(text, what):
    (launch,) = manifest(text)

    assert launch.refused == what


def test_volumes_of_a_statefulset():
    (launch,) = manifest(
        "apiVersion: apps/v1\nkind: StatefulSet\nspec: {template: {spec: {containers: [{name: m, "
        "volumeMounts: [{name: data, mountPath: /d}, {name: lost, mountPath: /l}]}]}}, "
        "volumeClaimTemplates: [{metadata: {name: data}}]}\n"
    )

    assert launch.refused == {"volume lost": 'volumeMounts: Not found: "lost"'}


HELM = """\
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-train
spec:
  {{- if .Values.hostNetwork }}
  hostNetwork: true
  {{- end }}
  containers:
    - name: main
      image: "{{ .Values.image }}"
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      env:
        - name: NCCL_IB_DISABLE
          value: "1"
      {{- with .Values.volumeMounts }}
      volumeMounts: {{- toYaml . | nindent 8 }}
      {{- end }}
"""


def test_a_template_is_read_as_far_as_it_goes():
    (launch,) = manifest(HELM)

    assert launch.environment == {"NCCL_IB_DISABLE": "1"}
    assert launch.knows("environment.NCCL_IB_DISABLE")
    for field in ("image", "gpus", "memory_bytes", "shm_bytes", "mounts", "ipc"):
        assert not launch.knows(field), field
    assert not launch.unknown
    assert not launch.refused


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("64Gi", 64 * GIB),
        ("1G", 10**9),
        ("500m", 0.5),
        ("0.5", 0.5),
        ("2e3", 2000),
        ("8", 8),
        ("8 Gi", None),
        ("8GB", None),
    ],
)
def test_quantity(text, amount):
    assert quantity(text) == amount


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\n", "line 1: there is no `apiVersion:`"),
        ("apiVersion: v1\nkind: [\n", "line 3: not YAML"),
        ("", "line 1: there is no `apiVersion:`"),
    ],
)
def test_broken_files(text, says):
    with pytest.raises(BadLaunch) as caught:
        manifest(text)

    assert says in str(caught.value)


def test_manifests_that_start_nothing():
    assert manifest("apiVersion: v1\nkind: ConfigMap\ndata: {containers: 'x'}\n") == []
    assert manifest("apiVersion: v1\nkind: Pod\nspec: {containers: }\n") == []


BODY = """\
  containers:
    - name: main
      image: x  # pinned
"""


@pytest.mark.parametrize(
    ("body", "setting", "expected"),
    [
        pytest.param(
            BODY,
            ShmSize(GIB),
            f"{BODY}      volumeMounts:\n      - name: dshm\n        mountPath: /dev/shm\n"
            "  volumes:\n  - name: dshm\n    emptyDir:\n      medium: Memory\n"
            "      sizeLimit: 1Gi\n",
            id="shm",
        ),
        pytest.param(
            f"{DSHM}{BODY}{AT_SHM}",
            ShmSize(16 * GIB),
            f"{DSHM.replace('8Gi', '16Gi')}{BODY}{AT_SHM}",
            id="more shm",
        ),
        pytest.param(
            f"{DSHM}{BODY}",
            ShmSize(8 * GIB),
            f"{DSHM}{BODY}      volumeMounts:\n      - name: dshm\n        mountPath: /dev/shm\n",
            id="shm that is not mounted",
        ),
        pytest.param(
            f"  volumes:\n    - name: dshm\n      hostPath: {{path: /x}}\n{BODY}{AT_SHM}",
            ShmSize(GIB),
            "  volumes:\n    - name: dshm\n      emptyDir:\n        medium: Memory\n"
            f"        sizeLimit: 1Gi\n{BODY}{AT_SHM}",
            id="shm of another kind",
        ),
        pytest.param(BODY, IpcHost(), f"{BODY}  hostIPC: true\n", id="host's IPC"),
        pytest.param(
            f"  hostNetwork: true\n  dnsPolicy: ClusterFirst\n{BODY}",
            HostNetwork(),
            f"  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n{BODY}",
            id="name servers",
        ),
        pytest.param(
            BODY + limits("nvidia.com/gpu: 1"),
            GpuDevices(count=8),
            BODY + limits("nvidia.com/gpu: 8"),
            id="more GPUs",
        ),
        pytest.param(
            f"{BODY}      resources: {{limits: {{amd.com/gpu: 1}},"
            " requests: {amd.com/gpu: 1}}\n",
            GpuDevices("amd", count=2),
            f"{BODY}      resources: {{limits: {{amd.com/gpu: 2}},"
            " requests: {amd.com/gpu: 2}}\n",
            id="GPUs of a request",
        ),
        pytest.param(
            BODY + limits("memory: 1Gi"),
            Memory(),
            BODY + limits(""),
            id="no memory limit",
        ),
        pytest.param(
            f"{BODY}      env:\n        - name: A\n          valueFrom: {{fieldRef: {{}}}}\n",
            EnvSet("A", "1"),
            f'{BODY}      env:\n        - name: A\n          value: "1"\n',
            id="a variable from elsewhere",
        ),
        pytest.param(
            f"{BODY}      env:\n        - name: A\n          value: x\n        - name: B\n",
            EnvUnset("A"),
            f"{BODY}      env:\n        - name: B\n",
            id="a variable less",
        ),
        pytest.param(
            f"{BODY}      env:\n        - name: A\n          value: x\n",
            EnvUnset("A"),
            BODY,
            id="the only variable",
        ),
        pytest.param(
            f"{BODY}      command: [python]\n",
            EnvUnset("A"),
            f'{BODY}      command: ["env", "-u", "A", python]\n',
            id="a variable of the image",
        ),
        pytest.param(BODY, EnvUnset("A"), BODY, id="the image's own command is not known"),
        pytest.param(
            f"{BODY}      securityContext:\n        capabilities: {{add: [SYS_PTRACE]}}\n",
            Memlock(),
            f"{BODY}      securityContext:\n"
            '        capabilities: {add: [SYS_PTRACE, "IPC_LOCK"]}\n',
            id="a capability",
        ),
        pytest.param(BODY, RdmaDevices(), BODY, id="a resource whose name is not known"),
        pytest.param(f"{BODY}      shmSize: 1Gi\n", Drop("unknown", "shmSize"), BODY, id="a slip"),
    ],
)
def test_edits(body, setting, expected):
    source = Source("pod.yaml", HEAD + body)
    (found,) = read(source)

    corrected = edited(source, found.edits([setting]))

    assert corrected == HEAD + expected


KINDS = {
    "Pod": "apiVersion: v1\nkind: Pod\nmetadata: {name: n}\nspec:\n@  restartPolicy: Never\n",
    "Job": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: n}\nspec:\n  template:\n    spec:\n"
    "@      restartPolicy: Never\n",
    "Deployment": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: n}\nspec:\n"
    "  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec:\n@",
    "StatefulSet": "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: n}\nspec:\n"
    "  serviceName: n\n  selector: {matchLabels: {a: b}}\n  template:\n"
    "    metadata: {labels: {a: b}}\n    spec:\n@",
    "CronJob": "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: n}\nspec:\n"
    "  schedule: '@daily'\n  jobTemplate:\n    spec:\n      template:\n        spec:\n"
    "@          restartPolicy: Never\n",
}
CONTAINERS = """\
containers:
  - name: main
    image: x  # pinned
    command:
      - torchrun
      - train.py
    env:
      # of the job
      - name: NCCL_DEBUG
        value: INFO
    volumeMounts: [{name: data, mountPath: /data}]
volumes:
  - name: data
    persistentVolumeClaim: {claimName: data}
"""


def whole(kind: str) -> str:
    text = KINDS[kind]
    indent = " " * _depth(text)
    lines = "".join(f"{indent}{line}\n" for line in CONTAINERS.splitlines())
    return text.replace("\n@", f"\n{lines}", 1)


def _depth(text: str) -> int:
    above = text.partition("\n@")[0].splitlines()[-1]
    return len(above) - len(above.lstrip()) + 2


@pytest.mark.parametrize("kind", KINDS)
def test_corrections_are_valid_by_the_published_schema(kind):
    source = Source("manifest.yaml", whole(kind))
    validate(yaml.safe_load(source.text), VERSION, strict=True)
    (found,) = read(source)

    corrected = edited(source, found.edits(merge(TOGETHER)))

    validate(yaml.safe_load(corrected), VERSION, strict=True)
    (again,) = (found.launch for found in read(Source("manifest.yaml", corrected)))
    assert (again.shm_bytes, again.network, again.dns_policy) == (
        8 * GIB,
        "host",
        "ClusterFirstWithHostNet",
    )
    assert not again.unknown
    assert "# pinned" in corrected
    assert "# of the job" in corrected


SNIPPETS = {name: spelled("kubernetes", setting).lines for name, setting in EVERY.items()}


@pytest.mark.parametrize("name", [name for name, lines in SNIPPETS.items() if lines])
def test_snippets_are_valid_by_the_published_schema(name):
    patch = yaml.safe_load("\n".join(SNIPPETS[name]))["spec"]
    patch.setdefault("containers", [{"name": "CONTAINER"}])
    patch["containers"][0]["image"] = "image"
    found = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n"}, "spec": patch}

    validate(found, VERSION, strict=True)


SETTINGS = [
    *(ShmSize(GIB), Memory(GIB), Cpus(2), GpuDevices(count=1), Group(44), Stack(8 * MIB)),
    *(Capability("SYS_NICE"), EnvSet("A", "$(B)"), Mount("/cache", tmpfs_bytes=GIB)),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: type(s).__name__)
def test_what_is_said_already_is_not_said_again(setting):
    source = Source("pod.yaml", whole("Pod"))
    (found,) = read(source)
    once = Source("pod.yaml", edited(source, found.edits([setting])))

    twice = edited(once, read(once)[0].edits([setting]))

    assert twice == once.text or isinstance(setting, Stack)
