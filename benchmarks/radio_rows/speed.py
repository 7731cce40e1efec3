"""Samples per second of the receiver and of GNU Radio's stock `ofdm_rx`, in one process and in turns.

Both read the same kind of file through the same source in a flowgraph of their own: noise alone, and their own packets
back to back, on the same carriers. The stock blocks spend most of their time on packets, not on symbols, and so are
measured with short ones and with the longest that they can send; ours are 2.5 times as long as those. Our receiver is
timed at 0 dB as well, where errors must be corrected in every header.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Complex64

from benchmarks.radio_rows import figures
from benchmarks.radio_rows.trial import Finding, Point, Run, gaussian, mean_interval
from sdr import ofdm
from sdr.impairments import noise_variance
from sdr.noise import complex_normal
from sdr.receive import Receiver
from sdr.transmit import transmit
from sdr.waveform import DEFAULT

SEARCH_ASKED = 4.0
PACKETS_ASKED = 2.0
REAL_TIME_ASKED = 1.5
_NOISE_RMS = 0.01
_LONG = "stock, long packets"
_STOCK_BYTES = {"stock": 96, _LONG: 400}
"""Of payload per packet: what GNU Radio's own OFDM examples send, and near the most that `ofdm_tx` has buffers for:
1,728 and 4,032 samples. Ours have 10,112."""
_RECEIVERS = ("own", "push", *_STOCK_BYTES)
_CRC_BYTES = 4
_STOCK_OVERHEAD = 3
"""OFDM symbols of a stock packet before its payload: two for synchronisation and the header."""
_SOURCE_BUFFER = 1 << 18
"""Samples; GNU Radio's own choice of 8,192 would cost both receivers a thread switch each time it is full."""
_FAINT = "packets at 0 dB"
_LOADS = {"noise": _RECEIVERS, "packets": _RECEIVERS, _FAINT: ("own", "push")}
"""What is received, and by which receivers."""


@dataclass(frozen=True)
class _Job:
    seed: int
    noise_samples: int
    packet_samples: int
    turns: int


def _own_packets(samples: int, rng: np.random.Generator) -> Complex64[np.ndarray, "n"]:
    """Images of 32,768 symbols back to back."""
    sent: list[np.ndarray] = []
    total = 0
    while total < samples:
        image = transmit(gaussian(32768, rng), rng.bytes(60), DEFAULT, session=1, image_id=len(sent), repetition=1)
        sent.append(image.samples)
        total += image.samples.size
    return np.concatenate(sent)


def stock_numerology() -> dict[str, Any]:
    """Arguments with which GNU Radio's OFDM blocks have our carriers, QPSK and a header in one symbol."""
    layout = ofdm.grid(DEFAULT)
    return {
        "packet_length_tag_key": "packet_len",
        "bps_payload": 2,
        "fft_len": DEFAULT.fft_size,
        "cp_len": DEFAULT.cyclic_prefix,
        "occupied_carriers": (layout.carriers[layout.data].tolist(),),
        "pilot_carriers": (layout.carriers[layout.pilot].tolist(),),
        "pilot_symbols": ((1,) * DEFAULT.pilots,),
    }


def _stock_packets(samples: int, size: int, rng: np.random.Generator) -> Complex64[np.ndarray, "n"]:
    """What `ofdm_tx` makes of random packets of `size` bytes, back to back and at our power."""
    from gnuradio import blocks, digital, gr

    payload_symbols = -(-8 * (size + _CRC_BYTES) // (2 * DEFAULT.data_carriers))
    packets = samples // ((_STOCK_OVERHEAD + payload_symbols) * DEFAULT.symbol_samples) + 1
    graph = gr.top_block()
    source = blocks.vector_source_b(list(rng.bytes(packets * size)), False, 1, [])
    tagger = blocks.stream_to_tagged_stream(gr.sizeof_char, 1, size, "packet_len")
    sink = blocks.vector_sink_c()
    graph.connect(source, tagger, digital.ofdm_tx(**stock_numerology()), sink)
    graph.run()
    sent = np.array(sink.data(), np.complex64)
    return np.asarray(sent * np.float32(DEFAULT.tx_rms / np.sqrt(np.mean(np.abs(sent) ** 2))), np.complex64)


def _flow(path: Path, receiver: str) -> tuple[float, float, int]:
    """Seconds by the clock and of processors for a file through one receiver, and the packets decoded."""
    from gnuradio import blocks, digital, gr

    from flowgraphs.blocks.receiver import Receiver as Block

    gr.logging().set_default_level(gr.log_levels.warn)
    graph = gr.top_block()
    source = blocks.file_source(gr.sizeof_gr_complex, str(path), False)
    source.set_min_output_buffer(_SOURCE_BUFFER)
    if receiver in _STOCK_BYTES:
        sink = blocks.vector_sink_b()
        graph.connect(source, digital.ofdm_rx(**stock_numerology()), sink)
    else:
        sink = Block()
        graph.connect(source, sink)
    begun, work = time.perf_counter(), time.process_time()
    graph.run()
    if receiver not in _STOCK_BYTES:
        sink.rest()  # what lies in the last block
    seconds, work = time.perf_counter() - begun, time.process_time() - work
    count = len(sink.data()) // _STOCK_BYTES[receiver] if receiver in _STOCK_BYTES else sink.packets
    return seconds, work, count


def _pushed(samples: Complex64[np.ndarray, "n"]) -> tuple[float, float, int]:
    """The same without GNU Radio: the receiver alone."""
    receiver = Receiver(DEFAULT)
    begun, work = time.perf_counter(), time.process_time()
    images = receiver.push(samples) + receiver.flush()
    seconds, work = time.perf_counter() - begun, time.process_time() - work
    return seconds, work, sum(image.packets_received for image in images)


def _trials(job: _Job) -> dict[str, Any]:
    """Samples per second by load and receiver, by the clock and per second of one processor, one value per turn."""
    rng = np.random.default_rng((job.seed, 10))
    rates: dict[str, dict[str, list[float]]] = {load: {name: [] for name in names} for load, names in _LOADS.items()}
    by_work: dict[str, dict[str, list[float]]] = {load: {name: [] for name in names} for load, names in _LOADS.items()}
    decoded: dict[str, int] = {}
    with TemporaryDirectory() as folder:
        noise = complex_normal(rng, (job.noise_samples,)) * np.float32(_NOISE_RMS)
        packets = {name: _stock_packets(job.packet_samples, size, rng) for name, size in _STOCK_BYTES.items()}
        packets["own"] = packets["push"] = _own_packets(job.packet_samples, rng)
        streams = {"noise": dict.fromkeys(_RECEIVERS, noise)}
        streams["packets"] = {name: np.add(sent, np.resize(noise, sent.size)) for name, sent in packets.items()}
        as_loud = np.float32(noise_variance(0.0, DEFAULT) ** 0.5 / _NOISE_RMS)
        faint = np.add(packets["own"], as_loud * np.resize(noise, packets["own"].size))
        streams[_FAINT] = dict.fromkeys(_LOADS[_FAINT], faint)
        for turn in range(job.turns + 1):
            for load, receiver in [(load, name) for load, names in _LOADS.items() for name in names]:
                samples, path = streams[load][receiver], Path(folder) / "samples"
                if receiver == "push":
                    seconds, work, count = _pushed(samples)
                else:
                    samples.tofile(path)
                    seconds, work, count = _flow(path, receiver)
                if turn:  # the first one fills caches
                    rates[load][receiver].append(samples.size / seconds)
                    by_work[load][receiver].append(samples.size / work)
                if load == "packets":
                    decoded[receiver] = count
    return {"rates": rates, "by_work": by_work, "decoded": decoded, "load_average": os.getloadavg()[0]}


def measure(run: Run) -> list[Finding]:
    """Ratios of speeds taken in turns, so that what else the machine does weighs on both alike."""
    job = _Job(run.seed, run.count(16_000_000, 4_000_000), run.count(8_000_000, 1_000_000), run.count(7, 3))
    load_before = os.getloadavg()[0]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        result = alone.submit(_trials, job).result()
    run.advance(1.0)
    rates = {load: {name: np.array(values) for name, values in row.items()} for load, row in result["rates"].items()}
    medians = {load: {name: float(np.median(v)) / 1e6 for name, v in row.items()} for load, row in rates.items()}
    points = []
    for load, asked in (("noise", SEARCH_ASKED), ("packets", PACKETS_ASKED)):
        ratios = rates[load]["own"] / rates[load]["stock"]
        ratio = float(np.median(ratios))
        points.append(Point(f"{load}: over ofdm_rx", ratio, ratio >= asked, asked, 1.0, mean_interval(ratios), "×"))
    ratios = rates["packets"]["own"] / rates["packets"][_LONG]
    label = f"packets: over ofdm_rx with packets of {_STOCK_BYTES[_LONG]} bytes"
    over_long = float(np.median(ratios))
    points.append(Point(label, over_long, True, None, 1.0, mean_interval(ratios), "×"))
    real_time = []
    for load in _LOADS:
        ratios = rates[load]["own"] / DEFAULT.sample_rate_hz
        ratio = float(np.median(ratios))
        passed = ratio >= REAL_TIME_ASKED
        label = f"{load}: over real time"
        work = {name: float(np.median(values)) / 1e6 for name, values in result["by_work"][load].items()}
        extra = {"msps": medians[load], "msps_per_processor": work}
        real_time.append(Point(label, ratio, passed, REAL_TIME_ASKED, 1.0, mean_interval(ratios), "×", extra))
    _plot(run, medians)
    cores = os.cpu_count()
    return [
        Finding(
            title="speed, one process, against GNU Radio's stock `ofdm_rx` in the same run",
            asked=f"≥ {SEARCH_ASKED:g} × in noise, ≥ {PACKETS_ASKED:g} × on packets, "
            f"≥ {REAL_TIME_ASKED} × real time at 4 Msps",
            bound=f"`ofdm_rx`: {medians['noise']['stock']:.1f} and {medians['packets']['stock']:.1f} Msps",
            measured=f"{points[0].measured:.1f} × in noise, {points[1].measured:.1f} × on packets "
            f"({over_long:.1f} × if the stock ones are long); {min(p.measured for p in real_time):.1f} × real time "
            f"({medians['noise']['own']:.1f}, {medians['packets']['own']:.1f} and, at 0 dB, "
            f"{medians[_FAINT]['own']:.1f} Msps)",
            trials=f"median of {job.turns} turns, {cores} cores, load {load_before:.1f} before",
            points=points + real_time,
            plot="speed.png",
            note="each in a flowgraph from the same source, with the same carriers; stock packets of "
            f"{_STOCK_BYTES['stock']} bytes (1,728 samples), and {medians['packets'][_LONG]:.1f} Msps with "
            f"{_STOCK_BYTES[_LONG]} (4,032), the longest that `ofdm_tx` has buffers for; ours have 10,112 samples",
            conditions={**result["decoded"], "load_average": [load_before, result["load_average"]], "cores": cores},
        )
    ]


def _plot(run: Run, medians: dict[str, dict[str, float]]) -> None:
    names = {"own": "our receiver in a flowgraph", "push": "our receiver alone", "stock": "stock ofdm_rx"}
    names[_LONG] = f"stock ofdm_rx, packets of {_STOCK_BYTES[_LONG]} bytes"
    with figures.figure(run.out / "speed.png") as (axes,):
        for series, (name, label) in enumerate(names.items()):
            loads = [place for place, receivers in enumerate(_LOADS.values()) if name in receivers]
            places = [place + 0.21 * (series - 1.5) for place in loads]
            heights = [medians[list(_LOADS)[place]][name] for place in loads]
            bars = axes.bar(places, heights, width=0.2, color=figures.COLOURS[series], label=label)
            axes.bar_label(bars, [f"{height:.1f}" for height in heights], fontsize=9)
        for rate, style, label in ((1.0, "--", "real time"), (REAL_TIME_ASKED, ":", "asked: 1.5 × real time")):
            rate_msps = rate * DEFAULT.sample_rate_hz / 1e6
            colour = "black" if rate == 1 else figures.RED
            axes.axhline(rate_msps, color=colour, linestyle=style, linewidth=1.4, label=label)
        for place, asked in enumerate((SEARCH_ASKED, PACKETS_ASKED)):
            height = asked * medians[list(_LOADS)[place]]["stock"]
            label = "asked: 4 × and 2 × ofdm_rx" if not place else "_"
            axes.plot(place - 0.315, height, "*", color=figures.RED, markersize=12, label=label)
        axes.set_xticks(range(len(_LOADS)), ["searching noise", "back-to-back packets", "the same at 0 dB"])
        axes.set(ylabel="speed, Msps", yscale="log", title="One process, two cores")
        axes.set_ylim(top=2.5 * max(max(row.values()) for row in medians.values()))
        axes.legend(loc="upper right")
