"""Writes the tables of docs/senders.md out of `senders.toml`; with `--check`, compares them."""

import pathlib
import re
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent.parent / "docs/senders.md"
REGISTRIES = {"npm": "npm", "pypi": "PyPI", "go": "Go", "maven": "Maven"}
TAKES = {"both": "either", "newest": "the new one", "oldest": "the old one"}


def verified_by(sender):
    """The libraries with their versions, or the sender's documentation."""
    if "documentation" in sender["verifiers"]:
        return "documentation"
    return ", ".join(
        f"{REGISTRIES[language]} {re.sub('==|@(?=[^@]*$)|:(?=[^:]*$)', ' ', library)}"
        for language, libraries in sender["verifiers"].items()
        for library in libraries
    )


def row(name, sender):
    takes = "–" if sender.get("unsigned") else TAKES[sender.get("rotation", "both")]
    cells = [
        f"`{name}`",
        verified_by(sender),
        takes,
        sender.get("know", "–"),
        sender.get("missing", "–"),
    ]
    return "| " + " | ".join(cells) + " |"


def tables():
    senders = tomllib.loads((HERE / "senders.toml").read_text())
    head = "| contract | verified by | takes in a rotation | to know | missing |\n|---|---|---|---|---|\n"
    rows = [row(name, sender) for name, sender in sorted(senders.items())]
    libraries = [one for one in rows if "| documentation |" not in one]
    pages = [one for one in rows if "| documentation |" in one]
    return (
        f"### By their libraries\n\n{len(libraries)} senders.\n\n{head}"
        + "\n".join(libraries)
        + "\n\n"
        f"### By their documentation\n\n{len(pages)} senders.\n\n{head}" + "\n".join(pages) + "\n"
    )


def main():
    front, mark, _ = PAGE.read_text().partition("## The senders\n\n")
    page = front + mark + tables()
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text() == page else "docs/senders.md: run tests/senders/page.py"
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
