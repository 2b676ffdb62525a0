"""Builds the kustomizations of this repository, which use a part of kustomize and no more; anything else is refused.

A test compares what this builds with what `kubectl kustomize` does, where that is installed. Generated ConfigMaps have
no hash in their names here.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
_KNOWN = {
    "apiVersion", "kind", "namespace", "resources", "images", "patches", "configMapGenerator", "generatorOptions",
}  # fmt: skip
_CLUSTER_WIDE = {"Namespace"}
_KEYS = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "ports": "containerPort"}
"""By what members of these lists are told apart."""


def load(file: Path) -> list[Manifest]:
    """Every document of a file."""
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def build(folder: Path) -> list[Manifest]:
    """Every manifest of a kustomization and of those below it."""
    (kustomization,) = load(folder / "kustomization.yaml")
    assert kustomization.keys() <= _KNOWN, f"{folder}: {kustomization.keys() - _KNOWN}"
    manifests: list[Manifest] = []
    for name in kustomization.get("resources", []):
        place = folder / name
        manifests += build(place) if place.is_dir() else load(place)
    options = kustomization.get("generatorOptions", {})
    manifests += [_config_map(folder, entry, options) for entry in kustomization.get("configMapGenerator", [])]
    for entry in kustomization.get("patches", []):
        assert entry.keys() == {"path"}, entry
        for patch in load(folder / entry["path"]):
            (target,) = [one for one in manifests if _identity(one) == _identity(patch)]
            merge(target, patch)
    for manifest in manifests:
        for image in kustomization.get("images", []):
            _rename(manifest, image)
        if (namespace := kustomization.get("namespace")) and manifest["kind"] not in _CLUSTER_WIDE:
            manifest["metadata"]["namespace"] = namespace
    return manifests


def merge(target: Manifest, patch: Manifest) -> None:
    """A strategic merge: null takes away, members of known lists are merged by name, other lists are replaced."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            merge(target[name], value)
        elif name in _KEYS and name in target:
            for member in value:
                same = [one for one in target[name] if one[_KEYS[name]] == member[_KEYS[name]]]
                merge(same[0], member) if same else target[name].append(copy.deepcopy(member))
        else:
            target[name] = copy.deepcopy(value)


def _identity(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _config_map(folder: Path, entry: Manifest, options: Manifest) -> Manifest:
    assert entry.keys() <= {"name", "envs", "files"}, entry
    assert options.keys() <= {"annotations", "labels", "disableNameSuffixHash"}, options
    data: dict[str, str] = {}
    for name in entry.get("envs", []):
        lines = (line.strip() for line in (folder / name).read_text().splitlines())
        data |= {key: value for key, _, value in (line.partition("=") for line in lines if line and line[0] != "#")}
    for given in entry.get("files", []):
        key, _, name = given.rpartition("=")
        data[key or name] = (folder / name).read_text()
    metadata: Manifest = {"name": entry["name"]}
    metadata |= {key: dict(options[key]) for key in ("annotations", "labels") if key in options}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _rename(node: Any, image: dict[str, str]) -> None:
    if isinstance(node, dict):
        current = node.get("image")
        if isinstance(current, str) and current.split(":")[0] == image["name"]:
            node["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
        for value in node.values():
            _rename(value, image)
    elif isinstance(node, list):
        for value in node:
            _rename(value, image)
