"""RESULTS.md and its figures, made from the run files of all studies."""

from __future__ import annotations

from pathlib import Path

from lpzero_hf.files import write_text
from studies.grades import Grades
from studies.study import Study, read

ROOT = Path(__file__).parent.parent
STUDIES: tuple[Study, ...] = (Grades(),)  # in the order of RESULTS.md


def write() -> list[Path]:
    """Write RESULTS.md and figures/; returns the files written."""
    from lpz_cli.plots import save

    runs = {study.name: read(study.name).data for study in STUDIES if study.makes}
    written, parts = [], ["# Results"]
    for study in STUDIES:
        parts.append(f"## {study.title}\n\n{study.show(runs)}")
        for name, figure in study.draw(runs).items():
            file = ROOT / "figures" / f"{name}.png"
            save(figure, file)
            written.append(file)
            parts.append(f"![{study.title}](figures/{name}.png)")
    write_text(ROOT / "RESULTS.md", "\n\n".join(parts) + "\n")
    return [ROOT / "RESULTS.md", *written]
