"""Which kind of launch file a text is."""

import pytest

from gpudoctor.lint.kinds import kind_of
from gpudoctor.lint.source import BadLaunch, Source

POD = "apiVersion: v1\nkind: Pod\n"
COMPOSE = "services:\n  a: {image: b}\n"


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        pytest.param("-", "docker run image", "shell", id="a command"),
        pytest.param("train.sh", "docker run image", "shell", id="a script"),
        pytest.param("train.sh", f"kubectl apply -f - <<E\n{POD}E\n", "shell", id="it holds a pod"),
        pytest.param("job", "#!/bin/bash\n#SBATCH -N2\n", "shell", id="by its first line"),
        pytest.param("-", "{ docker run image; }", "shell", id="a group"),
        pytest.param("-", POD, "Kubernetes", id="a pod"),
        pytest.param("x.yaml", f"# about\n---\n{POD}", "Kubernetes", id="a pod in a file"),
        pytest.param("x.json", '{"apiVersion": "v1", "kind": "Pod"}', "Kubernetes", id="JSON"),
        pytest.param("x.yaml", f"{{{{- if .Values.on }}}}\n{POD}", "Kubernetes", id="a template"),
        pytest.param("compose.yaml", f"name: x\n{COMPOSE}", "compose", id="compose"),
        pytest.param("x.json", '{"services": {}}', "compose", id="compose as JSON"),
        pytest.param("Dockerfile", "RUN x", "Dockerfile", id="by its name"),
        pytest.param("gpu.Dockerfile", "", "Dockerfile", id="by its ending"),
        pytest.param("Dockerfile.gpu", "", "Dockerfile", id="Dockerfile.gpu"),
        pytest.param("Containerfile", "", "Dockerfile", id="Containerfile"),
        pytest.param("-", "# about\nARG A=1\nFROM $A\n", "Dockerfile", id="by what it says first"),
        pytest.param("empty", "", "shell", id="nothing"),
    ],
)
def test_kind(name, text, kind):
    assert kind_of(Source(name, text)) == kind


@pytest.mark.parametrize("name", ["README.md", "values.yaml", "package.json", "train.py"])
def test_no_launch_file(name):
    with pytest.raises(BadLaunch):
        kind_of(Source(name, '{"a": 1}'))
