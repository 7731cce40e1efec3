"""`lrisc report`: a campaign as a page to read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, UsageError, prepare_folder, working, write_text

EPILOG = "Example: lrisc report runs/example"


def report(
    run: Annotated[Path, typer.Argument(help="RUN folder of lrisc sweep, finished or not.")],
    as_json: Json = False,
) -> None:
    """Write RUN/report.html, one page that needs nothing beside it, and RUN/figures/ with PNG and PDF for a paper.

    Quality against measured SNR and against channel symbols with confidence intervals, models compared pair by pair,
    pictures, the radio, and how each number was made. May be called while the campaign runs.
    """
    if not run.is_dir():
        raise UsageError(f"{run} is no folder: give the --out of lrisc sweep")
    with working("read the ledger") as stage:
        from calibration.ledger import Records
        from calibration.page import report as compose
        from calibration.page import summary

        with Records(run) as records:
            stage("draw")
            made = compose(records)
        figures = run / "figures"
        prepare_folder(figures)
        write_text(run / "report.html", made.html)
        for number, chart in enumerate(made.charts.values(), 1):
            stage(f"write figure {number} of {len(made.charts)}")
            for kind in ("png", "pdf"):
                (figures / f"{chart.name}.{kind}").write_bytes(chart.render(kind))
    comparisons = [summary(found) for found in made.reductions]
    if as_json:
        print(json.dumps({"page": str(run / "report.html"), "figures": len(made.charts), "comparisons": comparisons}))
        return
    for found in comparisons:
        steps, reduction = found["model"]["steps"], found["lpips_reduction_percent"]
        print(
            f"{found['model']['model']}{'' if steps is None else f' at {steps} steps'}: LPIPS "
            f"{abs(reduction):.1f} % {'below' if reduction >= 0 else 'above'} {found['reference']['model']}, "
            f"PSNR {found['psnr_difference_db']:+.2f} dB"
        )
    print(f"{run / 'report.html'} and {len(made.charts)} figures as PNG and PDF in {figures}")
