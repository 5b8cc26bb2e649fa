"""Tools of this environment, run on folders; what pyright says, file by file."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Findings = dict[str, list[str]]


def run(*command: str | Path, cwd: Path, path: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment, as a module of it; mypy looks for modules in `path`, too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MYPY")}
    environment |= {"MYPYPATH": os.pathsep.join(map(str, path)), "FORCE_COLOR": "0"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def pyright(*files: str, cwd: Path, config: Mapping[str, Any]) -> Findings:
    """What pyright finds wrong with these files, named as from `cwd`, file by file."""
    (cwd / "pyrightconfig.json").write_text(json.dumps({"include": files, **config}))
    done = run("pyright", "--pythonpath", sys.executable, "--outputjson", cwd=cwd)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files), report["summary"]
    found: Findings = defaultdict(list)
    for item in report["generalDiagnostics"]:
        name = str(Path(item["file"]).relative_to(cwd))
        line = item["range"]["start"]["line"] + 1
        text = item["message"].replace("\xa0", " ")
        found[name].append(f"{name}:{line}: {item['severity']}: {text}  [{item.get('rule')}]")
    return found
