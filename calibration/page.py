"""The report of a campaign: one HTML page that needs nothing beside it, and its figures as files for a paper."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from calibration.gallery import Exhibit, Shown, gallery
from calibration.ledger import Records
from calibration.plots import MEASURES, Chart, against_cbr, against_snr, packet_loss, ratio_text, snr_estimates
from calibration.statistics import Interval, Reduction, Rows, Series, reduction

_REFERENCE = "deepjscc"  # models whose names begin so are what others are compared to
_SPENT_AT = 3  # SNRs for which curves against CBR are drawn: lowest, middle, highest
_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Report:
    """The page, every figure by name, and the comparison as numbers."""

    html: str
    charts: dict[str, Chart]
    reductions: list[Reduction]


def report(records: Records) -> Report:
    """Everything from the ledger of one campaign, finished or not."""
    rows = Rows(records.rows())
    reductions = list(_reductions(rows))
    charts: dict[str, Chart] = {}
    parts = [_head(records, rows, reductions)]
    if rows.cells:
        parts += [_table(rows, reductions), _quality(rows, charts), _pictures(records, rows), _radio(rows, charts)]
    parts.append(_origin(records, rows))
    title = escape(records.design["plan"]["name"])
    html = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Campaign {title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><main>{''.join(parts)}</main></body></html>\n"
    )
    return Report(html, charts, reductions)


def _reductions(rows: Rows) -> Iterator[Reduction]:
    references = [series for series in rows.series if series.model.startswith(_REFERENCE)]
    for reference in references:
        for series in rows.series:
            if series != reference and (found := reduction(rows, series, reference)) is not None:
                yield found


def _head(records: Records, rows: Rows, reductions: list[Reduction]) -> str:
    plan = records.design["plan"]
    lost = sum(rows.lost.values())
    facts = [
        (f"{rows.total:,}", "points"),
        (f"{len(plan['images']):,}", "pictures"),
        (f"{len(rows.series)}", "models"),
        (f"{lost:,}", "pictures lost"),
        (f"{rows.failed:,}", "failed"),
    ]
    tiles = "".join(f"<li><strong>{number}</strong> {what}</li>" for number, what in facts)
    lines = "".join(
        f"<p><strong>{_number(found.mean.mean)} %</strong> lower LPIPS with {escape(rows.label(found.series))} than "
        f"with {escape(rows.label(found.reference))}{_confidence(found.mean)}, in the mean of {found.cells} cells and "
        f"{found.pictures} pictures</p>"
        for found in reductions
        if found.series == rows.series[0] and found.mean.mean > 0
    )
    headline = f'<div class="headline">{lines}</div>' if lines else ""
    when = records.sessions[-1]["started"][:10] if records.sessions else ""
    return (
        f'<header><p class="kind">Campaign · {when}</p><h1>{escape(plan["name"])}</h1>{headline}'
        f'<ul class="facts">{tiles}</ul></header>'
    )


def _table(rows: Rows, reductions: list[Reduction]) -> str:
    if not reductions:
        return (
            "<section><h2>Compared with DeepJSCC</h2><p>No model of this plan is called deepjscc…, or none has a "
            "point in common with it.</p></section>"
        )
    tables: list[str] = []
    for reference in dict.fromkeys(found.reference for found in reductions):
        lines = "".join(_compared(found, rows) for found in reductions if found.reference == reference)
        headings = ("model", "LPIPS lower by", "worst … best cell", "PSNR", "cells × pictures")
        head = "".join(f"<th scope='col'>{heading}</th>" for heading in headings)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        title = f"against {escape(rows.label(reference))}"
        tables.append(f"<details{'' if tables else ' open'}><summary>{title}</summary>{table}</details>")
    return (
        "<section><h2>Compared with DeepJSCC</h2><p>Picture by picture over the same channel and with the same number "
        "of channel symbols: the relative reduction of mean LPIPS in each cell (SNR × CBR × channel × region), in the "
        "mean over the cells that both models have, with its 95 % interval over pictures.</p>"
        f"{''.join(tables)}</section>"
    )


def _compared(found: Reduction, rows: Rows) -> str:
    return (
        f"<tr><th scope='row'>{escape(rows.label(found.series))}</th>"
        f"<td data-of='LPIPS lower by'><span><b>{_number(found.mean.mean)} %</b>"
        f" <small>{_confidence(found.mean)}</small></span></td>"
        f"<td data-of='worst … best cell'>{_number(found.worst)} … {_number(found.best)} %</td>"
        f"<td data-of='PSNR'>{_number(found.psnr_db, '+.2f')} dB</td>"
        f"<td data-of='cells × pictures'>{found.cells} × {found.pictures}</td></tr>"
    )


def _quality(rows: Rows, charts: dict[str, Chart]) -> str:
    channels, regions, ratios, snrs = (rows.axis(index) for index in range(4))
    chosen = sorted(snrs)
    if len(chosen) > _SPENT_AT:
        chosen = [chosen[0], chosen[len(chosen) // 2], chosen[-1]]
    parts = []
    for channel in channels:
        for roi in regions:
            where = f"{escape(channel)}" + (f", region {escape(roi)}" if roi else "")
            parts += _charts(
                f"Quality against SNR: {where}",
                [[against_snr(rows, channel, roi, ratio, measure) for ratio in ratios] for measure in MEASURES],
                charts,
            )
            if len(ratios) > 1:
                parts += _charts(
                    f"Quality against channel symbols: {where}",
                    [[against_cbr(rows, channel, roi, snr, measure) for snr in chosen] for measure in MEASURES],
                    charts,
                )
    note = (
        '<p class="note">Means over pictures; bars are 95 % intervals (bootstrap over pictures). SNR is Es/N0 per '
        "occupied data subcarrier as the receiver measured it; for digital, which is a calculation, the true one. "
        "A picture that was lost counts as flat grey.</p>"
    )
    return "".join(parts) + f"<section>{note}</section>"


def _charts(heading: str, lines: list[list[Chart | None]], charts: dict[str, Chart]) -> list[str]:
    """A section with a line of figures for each measure, as far as there are any."""
    drawn = [[chart for chart in line if chart is not None] for line in lines]
    shown = "".join(_line(line, charts) for line in drawn if line)
    return [f"<section><h2>{heading}</h2>{shown}</section>"] if shown else []


def _line(line: list[Chart], charts: dict[str, Chart]) -> str:
    figures = "".join(_figure(chart, charts) for chart in line)
    return f'<div class="charts" style="--columns: {_columns(len(line), 3)}">{figures}</div>'


def _columns(count: int, most: int) -> int:
    """So many that the lines are full, or nearly."""
    return -(-count // -(-count // most))


def _radio(rows: Rows, charts: dict[str, Chart]) -> str:
    figures = [chart for chart in (snr_estimates(rows), packet_loss(rows)) if chart is not None]
    lines = []
    for (series, cell), count in rows.lost.items():
        if count:
            roi = f", region {escape(cell[1])}" if cell[1] else ""
            lines.append(
                f"<li>{escape(rows.label(series))}: {count} at {cell[3]:g} dB, CBR {ratio_text(cell[2])}, "
                f"{escape(cell[0])}{roi}</li>"
            )
    lost = f"<details><summary>Pictures lost, by model and cell</summary><ul>{''.join(lines)}</ul></details>"
    return f"<section><h2>The radio</h2>{_line(figures, charts) if figures else ''}{lost if lines else ''}</section>"


def _figure(chart: Chart, charts: dict[str, Chart]) -> str:
    charts[chart.name] = chart
    data = base64.b64encode(chart.render("svg")).decode()
    return f'<figure><img alt="{escape(chart.description)}" src="data:image/svg+xml;base64,{data}"></figure>'


def _pictures(records: Records, rows: Rows) -> str:
    conditions, exhibits = gallery(records, rows)
    if not exhibits:
        return ""
    shown = "".join(_exhibit(exhibit) for exhibit in exhibits)
    return f"<section><h2>Pictures: {escape(conditions)}</h2>{shown}</section>"


def _exhibit(exhibit: Exhibit) -> str:
    panels = "".join(_panel(shown, exhibit) for shown in exhibit.shown)
    return (
        f"<h3>{escape(exhibit.name)} <small>below each, {exhibit.place} from near</small></h3>"
        f'<div class="pictures" style="--columns: {_columns(len(exhibit.shown), 5)}">{panels}</div>'
    )


def _panel(shown: Shown, exhibit: Exhibit) -> str:
    words = ""
    if shown.row is not None:
        lpips = "" if shown.row["lpips"] is None else f" · LPIPS {shown.row['lpips']:.3f}"
        words = f"<br>{shown.row['psnr_db']:.2f} dB{lpips}"
        if shown.row["lpips_roi"] is not None:
            words += f"<br>region {shown.row['psnr_roi_db']:.2f} dB · {shown.row['lpips_roi']:.3f}"
    images = "".join(
        f'<img class="{kind}" alt="{escape(exhibit.name)}, {escape(shown.label)}, {kind}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
        for kind, data in (("whole", shown.whole), ("detail", shown.detail))
    )
    return f"<figure>{images}<figcaption><strong>{escape(shown.label)}</strong>{words}</figcaption></figure>"


def _origin(records: Records, rows: Rows) -> str:
    design = records.design
    models = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td data-of='weights'>{escape(_short(model))}</td>"
        f"<td data-of='SHA-256'><code>{escape(hashes['weights'][:16])}</code></td></tr>"
        for name, versions in design["models"].items()
        for model, hashes in versions.items()
    )
    sessions = "".join(_session(session) for session in records.sessions)
    reasons = "".join(f"<li>{count} × {escape(reason)}</li>" for reason, count in list(rows.reasons.items())[:20])
    failed = f"<h3>Why points failed</h3><ul>{reasons}</ul>" if reasons else ""
    return (
        "<section><h2>How each number was made</h2>"
        "<p>Every row was made by sending its picture through the modem and a channel drawn from the row's own seed, "
        "receiving it without any other knowledge, decoding, and measuring against the original in 8-bit RGB: PSNR, "
        "MS-SSIM (Wang 2003) and LPIPS-Alex 0.1. CBR counts channel symbols with all side information and its error "
        "correction per 3·height·width. digital is the best of JPEG, WebP and AVIF at the capacity of the Gaussian "
        "channel, which no modem reaches; digital-real the same formats with LDPC and QAM over this modem. One row "
        "again: <code>lrisc loopback PICTURE --snr-db … --cbr … --channel … --seed …</code></p>"
        f"{failed}<h3>Models</h3><table><thead><tr><th scope='col'>model</th><th scope='col'>weights</th>"
        f"<th scope='col'>SHA-256</th></tr></thead><tbody>{models}</tbody></table>"
        f"<details><summary>Plan</summary><pre>{escape(_plan(design['plan']))}</pre></details>"
        f"<details><summary>Sessions: commit, versions, machine</summary>{sessions}</details></section>"
    )


def _session(session: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in session["versions"].items())
    machine = session["machine"]
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return (
        f"<p><strong>{escape(session['started'])}</strong>, commit <code>{escape(str(session['commit']))}</code><br>"
        f"{escape(machine['processor'])}, {machine['cores']} cores, {escape(gpus)}, {escape(machine['system'])}; "
        f"workers: {escape(str(session.get('workers', '–')))}<br>{escape(versions)}</p>"
    )


def _plan(plan: dict[str, Any]) -> str:
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in plan.items())


def _short(model: str) -> str:
    """A model as the plan names it, without the folders of the machine that it was measured on."""
    return "/".join(Path(model).parts[-2:]) if Path(model).is_absolute() else model


def _confidence(found: Interval) -> str:
    return "" if np.isnan(found.low) else f" ({_number(found.low)} … {_number(found.high)} %)"


def _number(value: float, form: str = ".1f") -> str:
    """With a minus sign as long as a plus."""
    return f"{value:{form}}".replace("-", "−")


def summary(found: Reduction) -> dict[str, Any]:
    """A comparison for JSON; `steps` is null for a model's own."""

    def name(series: Series) -> dict[str, Any]:
        return {"model": series.model, "steps": series.steps}

    return {
        "model": name(found.series),
        "reference": name(found.reference),
        "lpips_reduction_percent": found.mean.mean,
        "interval_percent": None if np.isnan(found.mean.low) else [found.mean.low, found.mean.high],
        "worst_cell_percent": found.worst,
        "best_cell_percent": found.best,
        "psnr_difference_db": found.psnr_db,
        "cells": found.cells,
        "pictures": found.pictures,
    }
