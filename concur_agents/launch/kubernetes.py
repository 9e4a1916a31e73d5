"""A Kubernetes Deployment with its Service and the volume for its downloads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from concur_agents.launch.compose import CACHE, START_LIMIT_S, STOP_GRACE_S
from concur_agents.launch.profile import MODEL_MOUNT
from concur_agents.launch.text import service_name

if TYPE_CHECKING:
    from concur_agents.launch.profile import LaunchProfile

_GIB = 2**30
PROBE_PERIOD_S = 10
STARTING_FAILURES = START_LIMIT_S // PROBE_PERIOD_S


def manifests(profile: LaunchProfile, program: list[str]) -> list[dict[str, Any]]:
    """What `kubectl apply` takes: one server. A gate has to reach each server by itself, so there is one replica.

    Args:
        profile: The server, as it is told in a container.
        program: What to run.
    """
    name = service_name(profile)
    labels = {"app.kubernetes.io/name": name}
    found = [_deployment(profile, program, name, labels), _service(profile, name, labels)]
    return found if profile.folder is not None else [_downloads(profile, name, labels), *found]


def _deployment(profile: LaunchProfile, program: list[str], name: str, labels: dict[str, str]) -> dict[str, Any]:
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(profile.port),
        "prometheus.io/path": profile.metrics_path,
    }
    pod = {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {
            "enableServiceLinks": False,  # other services' variables, such as VLLM_PORT, would be taken for settings
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": STOP_GRACE_S,
            "containers": [_container(profile, program, name)],
            "volumes": [_model_volume(profile, name), {"name": "shm", "emptyDir": {"medium": "Memory"}}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # the new pod gets the GPUs of the old one
            "selector": {"matchLabels": labels},
            "template": pod,
        },
    }


def _container(profile: LaunchProfile, program: list[str], name: str) -> dict[str, Any]:
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": PROBE_PERIOD_S, "timeoutSeconds": 5}
    mount = MODEL_MOUNT if profile.folder is not None else CACHE
    return {
        "name": "server",
        "image": profile.released_image,
        "command": program,
        "args": [word.replace("$(", "$$(") for word in profile.arguments()],  # else Kubernetes puts variables in
        "env": _environment(profile, name),
        "ports": [{"name": "http", "containerPort": profile.port}],
        "resources": {"limits": {"amd.com/gpu" if profile.amd else "nvidia.com/gpu": profile.gpus}},
        "startupProbe": health | {"failureThreshold": STARTING_FAILURES},
        "readinessProbe": health | {"failureThreshold": 3},
        "livenessProbe": health | {"failureThreshold": 6},
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "model", "mountPath": mount, "readOnly": profile.folder is not None},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  shared memory of the GPUs' processes
        ],
    }


def _environment(profile: LaunchProfile, name: str) -> list[dict[str, Any]]:
    """Secrets by reference; the pod does not start without the API key, for the whole cluster reaches it."""
    variables = []
    if profile.key_variable:
        variables.append(_secret(profile.key_variable, {"name": name, "key": "api-key"}))
    if profile.folder is None:
        variables.append(_secret("HF_TOKEN", {"name": name, "key": "hf-token", "optional": True}))
    return variables


def _secret(variable: str, reference: dict[str, Any]) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _model_volume(profile: LaunchProfile, name: str) -> dict[str, Any]:
    if profile.folder is not None:
        return {"name": "model", "hostPath": {"path": str(profile.folder), "type": "Directory"}}
    return {"name": "model", "persistentVolumeClaim": {"claimName": name}}


def _service(profile: LaunchProfile, name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": profile.port, "targetPort": "http"}]},
    }


def _downloads(profile: LaunchProfile, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """A place for the weights, so that a restart does not load them anew from the hub."""
    gib = math.ceil(1.2 * profile.shape.weight_bytes / _GIB) + 10
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": labels},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{gib}Gi"}}},
    }
