#!/usr/bin/env python3
"""Makes of deny/advisories.toml what cargo-deny reads, and says of which crates it knows nothing.

    scripts/advisories.py DIRECTORY

DIRECTORY becomes a database in the form of RustSec's, as a git repository, and beside it stands a
configuration for cargo-deny, DIRECTORY.toml: deny.toml with that database in place of the public one.
Ends with an error where a crate that is compiled for a target of deny.toml was not looked up.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
KNOWN = ROOT / "deny" / "advisories.toml"
# Stands for the database below; git is told where that is. No such host can be.
URL = "https://advisories.invalid/known"


def used(targets: list[str]) -> set[str]:
    """Names of the crates of others that are compiled for these targets, by any of our crates."""
    names = set()
    for target in targets:
        command = ["cargo", "tree", "--locked", "--workspace", "--all-features", "--edges", "normal,build,dev"]
        command += ["--target", target, "--prefix", "none", "--format", "{p}"]
        tree = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        # A crate of ours has its folder behind its version.
        names |= {line.split(" ")[0] for line in tree.stdout.splitlines() if line and "(/" not in line}
    return names


def advisory(it: dict) -> str:
    """An advisory as RustSec writes it."""
    versions = {"patched": it["patched"], "unaffected": it.get("unaffected", [])}
    lines = ["```toml", "[advisory]", f'id = "{it["id"]}"', f'package = "{it["package"]}"']
    # The day is not kept; the year is in the number.
    lines += [f'date = "{it["id"].split("-")[1]}-01-01"']
    if "informational" in it:
        lines += [f'informational = "{it["informational"]}"']
    lines += ["", "[versions]"] + [f"{key} = {json.dumps(value)}" for key, value in versions.items()]
    return "\n".join([*lines, "```", "", f"# {it['title']}", "", f"https://rustsec.org/advisories/{it['id']}", ""])


def git(directory: pathlib.Path, *arguments: str) -> None:
    """Git as nobody in particular, whatever the machine's own configuration says."""
    nobody = {f"GIT_{who}_{what}": "pregon@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    nobody |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", "-C", directory, *arguments], check=True, env=os.environ | nobody, stdout=subprocess.DEVNULL)


def main() -> int:
    database = pathlib.Path(sys.argv[1]).resolve()
    known = tomllib.loads(KNOWN.read_text())
    rules = (ROOT / "deny.toml").read_text()
    looked_up = set(known["nothing"]) | {it["package"] for it in known["advisory"]}
    crates = used(tomllib.loads(rules)["graph"]["targets"])
    for name in sorted(crates - looked_up):
        print(f"advisories.py: nobody has looked up {name}; see {KNOWN.relative_to(ROOT)}", file=sys.stderr)
    for name in sorted(looked_up - crates):
        print(f"advisories.py: {name} is no longer used; remove it from {KNOWN.relative_to(ROOT)}", file=sys.stderr)
    if crates != looked_up:
        return 1

    shutil.rmtree(database, ignore_errors=True)
    for it in known["advisory"]:
        file = database / "crates" / it["package"] / f"{it['id']}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(advisory(it))
    git(database, "init", "--quiet", "--initial-branch", "main")
    git(database, "add", ".")
    git(database, "commit", "--quiet", "--message", f"as of {known['read']}")
    own = f'[advisories]\ndb-path = "{database}-copies"\ngit-fetch-with-cli = true\ndb-urls = ["{URL}"]\n'
    shutil.rmtree(f"{database}-copies", ignore_errors=True)
    database.with_suffix(".toml").write_text(rules.replace("[advisories]\n", own))
    print(f"{len(crates)} crates, {len(known['advisory'])} advisories, looked up on {known['read']}")
    return 0


sys.exit(main())
