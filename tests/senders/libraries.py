"""Writes what `senders.toml` names for npm and pip, and holds go.mod and pom.xml against it.

python3 tests/senders/libraries.py FOLDER
"""

import json
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).parent

# Their bounds for a dependency contradict those of other libraries, so they are installed without it.
ALONE = {"fintoc", "truelayer-signing"}
# What calls of verifiers need beside the libraries, and what those installed alone need.
BESIDE = ["requests", "cryptography>=45", "PyJWT==2.15.1"]


def named(language):
    senders = tomllib.loads((HERE / "senders.toml").read_text())
    return sorted(
        {one for sender in senders.values() for one in sender["verifiers"].get(language, {})}
    )


def write(folder):
    npm = dict(one.rsplit("@", 1) for one in named("npm"))
    package = {"private": True, "type": "module", "dependencies": npm}
    (folder / "node/package.json").write_text(json.dumps(package, indent=2) + "\n")
    pypi = [*named("pypi"), *BESIDE]
    alone = [one for one in pypi if one.partition("==")[0] in ALONE]
    (folder / "requirements.txt").write_text(
        "\n".join(one for one in pypi if one not in alone) + "\n"
    )
    (folder / "requirements-alone.txt").write_text("\n".join(alone) + "\n")


def differences():
    """Modules and artifacts of the table that are not those the checkers are built with."""
    module, pom = (HERE / "go/go.mod").read_text(), (HERE / "maven/pom.xml").read_text()
    for one in named("go"):
        if one.replace("@", " ") not in module:
            yield f"go.mod does not require {one}"
    for one in named("maven"):
        group, artifact, version = one.split(":")
        wanted = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        wanted += f"<version>{version}</version>"
        if wanted not in pom:
            yield f"pom.xml does not depend on {one}"


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
    if wrong := list(differences()):
        sys.exit("\n".join(wrong))
