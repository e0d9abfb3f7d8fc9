"""Where manifests of Kubernetes have their pods, and what the job around a pod says of it."""

from collections.abc import Iterator

from msgspec import Struct

from gpudoctor.lint.said import Said
from gpudoctor.lint.yaml_text import Listing, Node, Scalar, Table

# The training operator asks for a container of this name in each replica.
NAMED = {"PyTorchJob": "pytorch", "TFJob": "tensorflow", "PaddleJob": "paddle"}
_TEMPLATES = (("template", "spec"), ("workerTemplate", "spec"), ("leaderTemplate", "spec"))
_NOT_PODS = ("podTemplateOverrides", "runtimePatches", "metadata", "status")


class Pod(Struct):
    """A pod's spec, and where in its manifest it was found."""

    manifest: Table
    spec: Table
    path: tuple[str, ...]
    above: tuple[Table, ...]  # the mappings on the way to it, the manifest first

    @property
    def kind(self) -> str:
        return self.manifest.text("kind")

    @property
    def is_plain(self) -> bool:
        """Whether it has no keys but a pod's; Knative and KServe mix theirs in."""
        is_template = (self.kind, self.path) == ("Pod", ("spec",)) or self.path[-2:] in _TEMPLATES
        return is_template and "knative" not in self.manifest.text("apiVersion")

    @property
    def is_whole(self) -> bool:
        """Whether nobody adds volumes to it, as JobSet and Volcano do."""
        return self.manifest.text("apiVersion") in ("v1", "apps/v1", "batch/v1", "kubeflow.org/v1")

    @property
    def only_launches(self) -> bool:
        """Whether its command starts the ranks in other pods."""
        of_mpi = self.kind == "MPIJob" and self.role == "Launcher"
        works = self.manifest.scalar("spec", "runLauncherAsWorker")
        return of_mpi and not (works and works.is_true)

    @property
    def role(self) -> str:
        """Which part of a job with several kinds of pods this is."""
        for number, key in enumerate(self.path[:-1]):
            if key.endswith("ReplicaSpecs"):
                return self.path[number + 1]
        named = [t for t in self.above[1:] if t.find("template") and t.text("name")]
        return named[-1].text("name") if named else ""


def manifests(roots: list[Node]) -> Iterator[Table]:
    """The manifests of a file; those inside of a List as well."""
    for root in roots:
        if isinstance(root, Table) and root.text("kind") == "List":
            yield from root.listing("items").tables()
        elif isinstance(root, Table) and root.text("kind") and root.text("apiVersion"):
            yield root


def pods(manifest: Table) -> Iterator[Pod]:
    """Mappings with a list of containers, wherever a manifest has them."""
    return _pods(manifest, manifest, (), (), set())


def _pods(
    manifest: Table, node: Node, path: tuple[str, ...], above: tuple[Table, ...], seen: set[int]
) -> Iterator[Pod]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Listing):
        for number, item in enumerate(node.items):
            yield from _pods(manifest, item.node, (*path, str(number)), above, seen)
    elif isinstance(node, Table):
        if any(node.listing("containers").tables()):
            yield Pod(manifest, node, path, above)
            return
        for key in node.all_keys():
            below = node.find(key.text)
            if below and key.text not in _NOT_PODS:
                way = ((*path, key.text), (*above, node))
                yield from _pods(manifest, below.node, *way, seen)


def say_job(said: Said, pod: Pod) -> None:
    """Nodes and ranks, as far as the job says them, and what its operator refuses."""
    _say_replicas(said, pod)
    jobs = [table for table in pod.above if table.find("parallelism")]
    is_indexed = pod.kind == "JobSet" or any(t.text("completionMode") == "Indexed" for t in jobs)
    if jobs and is_indexed and said.fields.get("gpus"):  # else it may be any work, in parts
        every = count(jobs[-1].scalar("parallelism"))
        sets = [table for table in pod.above if table.find("replicas") and table.find("template")]
        times = count(sets[-1].scalar("replicas")) if sets and pod.kind == "JobSet" else 1
        if every and times:
            said.say("nodes", every * times, jobs[-1].start)
    if node := pod.manifest.scalar("spec", "mlPolicy", "numNodes"):
        said.say("nodes", count(node), node.start)
    policy = pod.spec.at("restartPolicy")
    is_known = policy is None or (isinstance(policy, Scalar) and not policy.is_open)
    is_job = pod.kind in ("Job", "CronJob") and pod.manifest.text("apiVersion") == "batch/v1"
    if is_job and is_known and pod.spec.text("restartPolicy") in ("", "Always"):
        why = 'Required value: valid values: "OnFailure", "Never"'
        said.refuse("restartPolicy", why, policy.start if policy else pod.spec.start)


def _say_replicas(said: Said, pod: Pod) -> None:
    spec = pod.manifest.table("spec")
    key = next((key for key in pod.path if key.endswith("ReplicaSpecs")), "")
    replicas = spec.table(key) if spec and key else None
    if spec is None or replicas is None:
        return
    roles = [key.text for key in replicas.all_keys() if key.text != "Launcher"]
    counts = [count(replicas.scalar(role, "replicas")) for role in roles]
    if None in counts:
        said.leave_open("nodes", replicas.start)
    elif roles:
        said.say("nodes", sum(number or 0 for number in counts), replicas.start)
    ranks = spec.scalar("nprocPerNode") or spec.scalar("slotsPerWorker")
    is_told = any("nproc" in word for word in said.fields.get("command", ()))
    if ranks and ranks.text.isdigit() and not is_told:
        said.say("ranks", int(ranks.text), ranks.start)
    elif pod.kind == "PyTorchJob" and said.fields.get("gpus") and not is_told:
        # The operator's default is PET_NPROC_PER_NODE=auto: torchrun takes one rank for each.
        said.say("ranks", said.fields["gpus"], pod.spec.start)
    wanted = NAMED.get(pod.kind)
    names = [container.text("name") for container in pod.spec.listing("containers").tables()]
    if wanted and wanted not in names:
        why = f"There is no container named {wanted} in {pod.role}"
        said.refuse(f"containers of {pod.role}", why, pod.spec.start)


def count(word: Scalar | None) -> int | None:
    """A number of replicas; 1 where none is given."""
    if word is None:
        return 1
    return int(word.text) if word.text.isdigit() else None
