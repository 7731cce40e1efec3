"""GNU Radio's own soapy blocks on virtual radios, sink and source in processes of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.native.radio import LONGEST_S, noise

FLOWGRAPH = """
import sys
import numpy as np
from gnuradio import blocks, gr, soapy
direction, serial, file = sys.argv[1:]
flowgraph = gr.top_block()
arguments = (f"profile=ideal,path_loss_db=0,peers=1,serial={serial}", "", [""], [""])
if direction == "sink":
    radio = soapy.sink("driver=lrisc", "fc32", 1, *arguments)
    flowgraph.connect(blocks.file_source(gr.sizeof_gr_complex, file), radio)
else:
    radio = soapy.source("driver=lrisc", "fc32", 1, *arguments)
    flowgraph.connect(radio, blocks.head(gr.sizeof_gr_complex, 200_000), blocks.file_sink(gr.sizeof_gr_complex, file))
radio.set_sample_rate(0, 4e6)
radio.set_frequency(0, 2.45e9)
radio.set_gain_mode(0, False)
radio.set_gain(0, "PGA", 0.0)
flowgraph.run()
"""


def test_soapy_sink_and_source_pass_samples(air: Path, tmp_path: Path) -> None:
    sent = noise(300_000)
    sent.tofile(tmp_path / "sent")

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", FLOWGRAPH, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with start("source", "alice", tmp_path / "received") as source, start("sink", "bob", tmp_path / "sent") as sink:
        for flowgraph in (source, sink):
            said, _ = flowgraph.communicate(timeout=3 * LONGEST_S)
            assert flowgraph.returncode == 0, said
    received = np.fromfile(tmp_path / "received", np.complex64)
    assert np.array_equal(received, sent[:200_000])
