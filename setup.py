"""Makes sparts/gen anew of thrift/fb303.thrift at a build; all else is in pyproject.toml.

The bindings are part of the source, so a build without a compiler takes them as they are. So does
one with a compiler of another version than theirs: it would write other text for the same file.
"""

import pathlib
import shutil
import subprocess
import tempfile

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = pathlib.Path(__file__).resolve().parent


def regenerate(root=ROOT):
    """Write the bindings under *root* that are not what the compiler makes; what was done."""
    compiler = shutil.which("thrift")
    if compiler is None:
        return "no thrift compiler on the PATH: sparts/gen stays as it is"
    with tempfile.TemporaryDirectory() as made:
        command = [compiler, "-gen", "py", "-out", made, str(root / "thrift/fb303.thrift")]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            return replace(pathlib.Path(made, "sparts/gen/fb303"), root / "sparts/gen/fb303")
        except (OSError, subprocess.SubprocessError) as error:  # the build can do without
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace")
            return f"warning: sparts/gen stays as it is: {error} {said}".rstrip()


def replace(made, kept):
    """Have in the directory *kept* the modules of *made*, unless another version made those."""
    modules = {file.name: file.read_bytes() for file in made.glob("*.py")}
    former = {file.name: file.read_bytes() for file in kept.glob("*.py")}
    if modules == former:
        return "sparts/gen is up to date"
    version, ours = (each.get("ttypes.py", b"").splitlines()[1:2] for each in (modules, former))
    if ours and version != ours:
        return "sparts/gen stays as it is: another version of the thrift compiler made it"
    kept.mkdir(parents=True, exist_ok=True)
    for name in former.keys() - modules.keys():
        (kept / name).unlink()
    for name, text in modules.items():
        (kept / name).write_bytes(text)
    return "made sparts/gen anew"


class BuildPy(build_py):
    """Copies the modules, with bindings that are up to date."""

    def run(self):
        print(regenerate())
        super().run()


class SDist(sdist):
    """Packs the source, with bindings that are up to date."""

    def run(self):
        print(regenerate())
        super().run()


setup(cmdclass={"build_py": BuildPy, "sdist": SDist})
