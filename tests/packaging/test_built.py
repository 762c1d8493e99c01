"""What is built holds all that it should and nothing else, says what it is, and is the same when it is built again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from trove_classifiers import classifiers

from tests.packaging.built import ROOT, Built, build
from tools import audit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCE = PROJECT["urls"]["Source"]
IMPORTED = ("piehole/", "controller/", "hooks/")


def test_a_second_build_elsewhere_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    """In a clone in another folder, with other permissions, in another time zone, and beside files that git does not know."""
    clone = tmp_path / "another name"
    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(clone)], check=True, timeout=60)
    (clone / "piehole" / "stray.py").write_text("")
    (clone / ".venv").symlink_to(ROOT / ".venv")
    again = tmp_path / "again"
    build(clone, again, built.commit, umask=0o077, env={"TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "7"})
    second = Built(again).artefacts
    assert {name for name, content in built.artefacts.items() if second.get(name) != content} == set()
    assert set(second) == set(built.artefacts)


def test_the_sdist_holds_what_git_knows_and_nothing_else(built: Built) -> None:
    assert built.in_sdist == {**built.tree, "PKG-INFO": 0o644}


def test_the_wheel_holds_the_packages_deploy_and_share_and_nothing_else(built: Built) -> None:
    information = f"piehole-{built.version}.dist-info"
    wanted = {name: mode for name, mode in built.tree.items() if name.startswith(IMPORTED)}
    for name, mode in built.tree.items():
        for folder, place in (("deploy/", "piehole/deploy/"), ("docs/trouble/", "piehole/trouble/")):
            if name.startswith(folder) and not name.startswith("deploy/debian/"):
                wanted[name.replace(folder, place, 1)] = mode
        if name.startswith("share/"):
            wanted[f"piehole-{built.version}.data/data/{name}"] = mode
    for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"):
        wanted[f"{information}/{name}"] = 0o644
    assert built.in_wheel == wanted
    assert {f"{name}py.typed" for name in IMPORTED} <= set(wanted)


def test_the_metadata_is_valid_and_complete(built: Built) -> None:
    found = Metadata.from_email(built.metadata(), validate=True)
    assert (found.name, str(found.version)) == ("piehole", PROJECT["version"])
    assert (found.license_expression, found.license_files) == ("Apache-2.0", ["LICENSE"])
    assert found.keywords and found.summary and found.classifiers
    assert set(found.classifiers) <= classifiers
    assert set(found.provides_extra or ()) == {"etcd", "otel"}  # for users; what developers need are dependency groups
    assert set(found.project_urls or {}) == {"Source", "Documentation", "Changelog", "Issues"}
    assert found.description_content_type == "text/markdown"


def test_every_address_below_the_projects_names_a_file_that_is_there(built: Built) -> None:
    """Also in the README that an index shows, where a relative link would lead nowhere."""
    found = Metadata.from_email(built.metadata(), validate=True)
    targets = re.findall(r"\]\(([^)\s]+)\)", found.description or "")
    assert [one for one in targets if not one.startswith(("https://", "#"))] == []
    below = {*targets, *(found.project_urls or {}).values()}
    names = {m[2] for one in below if (m := re.fullmatch(rf"{re.escape(SOURCE)}/(raw|blob)/main/([^#]+)(#.*)?", one))}
    assert names, "the README links to no file of the project"
    assert [name for name in names if not (ROOT / name).exists()] == []
    shown = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", found.description or "")
    assert [one for one in shown if one.startswith(f"{SOURCE}/blob/")] == []


def test_the_project_has_one_address() -> None:
    """The places that cannot read it from pyproject.toml say the same."""
    said = set()
    for name in ("pyproject.toml", "deploy/debian/control", "deploy/debian/copyright"):
        said |= set(re.findall(r"https://[^\s\"'/]+/[^\s\"'/]+/[^\s\"'/]+", (ROOT / name).read_text()))
    assert {one for one in said if "debian.org" not in one} == {SOURCE}


def test_the_sbom_names_what_piehole_needs_in_the_versions_that_are_pinned(built: Built) -> None:
    text = built.sbom.read_text()
    found = json.loads(text)
    assert (found["bomFormat"], found["metadata"]["component"]["name"]) == ("CycloneDX", "piehole")
    components = {one["name"]: one["version"] for one in found["components"] if one["name"] != "piehole"}
    there = {canonicalize_name(name): version for name, version in components.items()}
    assert {canonicalize_name(Requirement(one).name) for one in PROJECT["dependencies"]} <= set(there)
    pinned = {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in audit.pinned()}
    assert {name: version for name, version in there.items() if pinned.get(name) != version} == {}
    unknown = [one["name"] for one in found["components"] if not one.get("licenses")]
    assert unknown == []
    assert "/tmp" not in text and str(ROOT) not in text  # noqa: S108 -- what must not be there


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this machine")
def test_the_debian_package_holds_the_wheel_and_what_it_needs(built: Built, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-R", str(built.deb), str(tmp_path / "deb")], check=True, timeout=60)
    root = tmp_path / "deb"
    (site,) = (root / "usr/lib/piehole/lib").glob("python3.*/site-packages")
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    inside = {name for name in there if (root / name).is_relative_to(site)}
    modules = {name for name in built.in_wheel if name.startswith(IMPORTED) and not name.startswith("piehole/deploy/")}
    own = {path.relative_to(site).as_posix() for one in IMPORTED for path in (site / one).rglob("*") if path.is_file()}
    assert own == modules
    assert {path.name.split("-")[0] for path in site.glob("*.dist-info")} - {"piehole"} == {
        one["name"].replace("-", "_") for one in json.loads(built.sbom.read_text())["components"]
    }
    pages = {f"usr/share/man/man1/{Path(name).name}.gz" for name in built.tree if name.startswith("share/man/")}
    deploy = {
        f"usr/share/piehole/{n.removeprefix('piehole/')}" for n in built.in_wheel if n.startswith("piehole/deploy/")
    }
    # dh_compress leaves a document that is shorter than 4 KiB as it is.
    found = {name.removesuffix(".gz") if "/doc/" in name else name for name in there - inside - pages - deploy}
    assert found == {
        *(f"DEBIAN/{name}" for name in ("conffiles", "control", "md5sums", "postinst", "postrm", "prerm")),
        "etc/default/piehole",
        "lib/systemd/system/piehole-controller.service",
        "usr/bin/piehole",
        *(f"usr/lib/piehole/{name}" for name in ("bin/piehole", "bin/python3", "pyvenv.cfg")),
        "usr/lib/sysusers.d/piehole.conf",
        "usr/lib/tmpfiles.d/piehole.conf",
        "usr/share/bash-completion/completions/piehole",
        "usr/share/fish/vendor_completions.d/piehole.fish",
        "usr/share/zsh/vendor-completions/_piehole",
        *(f"usr/share/doc/piehole/{name}" for name in ("README.md", "changelog", "copyright", "piehole.cdx.json")),
    }
    assert pages | deploy <= there
    assert (root / "DEBIAN/conffiles").read_text() == "/etc/default/piehole\n"
    version = site.parent.name.removeprefix("python")
    assert (
        f"python3 (>= {version}~), python3 (<< 3.{int(version.partition('.')[2]) + 1}~)"
        in (root / "DEBIAN/control").read_text()
    )
