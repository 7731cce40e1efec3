"""Pictures to and from the files of a flowgraph: the neural networks run before and after it, never inside.

With the Python that has this project, which GNU Radio's own tools need too:

    python -m flowgraphs encode photo.jpg sent.npz
    python "$(command -v grcc)" -o out flowgraphs/loopback.grc
    python out/loopback.py --input-file sent.npz --output-file received.npz --noise-voltage 0.05
    python -m flowgraphs decode received.npz received.png
"""

import argparse
from pathlib import Path

import numpy as np

from flowgraphs import exchange, link
from flowgraphs.errors import LinkError
from models.codec import parse_cbr
from models.errors import ModelError
from models.image import load_image, save_image
from models.pipeline import JsccCodec
from sdr.errors import SdrError
from sdr.framing import side_repetition


def encode(options: argparse.Namespace) -> None:
    """Encode a picture for `loopback.py --input-file`, as `lrisc loopback --channel ideal` does with the same seed."""
    ratio, hint = parse_cbr(options.cbr), options.snr_hint_db
    image = load_image(options.photo)
    codec = JsccCodec.from_pretrained(options.model)
    encoded = link.encode(codec, image, cbr=ratio, snr_hint_db=hint, mask=None)
    session = int(np.random.default_rng(options.seed).integers(1 << 16))  # the first draw of link.loopback
    outgoing = exchange.Outgoing(encoded.symbols, encoded.side, session, 0, side_repetition(hint))
    exchange.write_outgoing(options.sent, outgoing)


def decode(options: argparse.Namespace) -> None:
    """Decode the first image of `loopback.py --output-file`."""
    images = exchange.read_received(options.received)
    if not images:
        raise LinkError(f"{options.received}: no image came through; lower --noise-voltage or --cfo-hz")
    codec = JsccCodec.from_pretrained(options.model)
    save_image(options.picture, link.decode(codec, images[0], steps=options.steps, seed=options.seed))
    packets = f"{images[0].packets_received} of {images[0].packets_expected} packets"
    print(f"{options.picture}: {packets}, SNR {images[0].snr_db:.1f} dB")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: write 0 or a positive whole number")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run; mistakes of the user end with one line and exit code 2."""
    parser = argparse.ArgumentParser(
        "python -m flowgraphs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    encoder = commands.add_parser("encode", help="picture to .npz", description=encode.__doc__)
    encoder.set_defaults(run=encode)
    encoder.add_argument("photo", type=Path)
    encoder.add_argument("sent", type=Path)
    encoder.add_argument("--cbr", default="1/12", help="channel symbols per picture value")
    encoder.add_argument("--snr-hint-db", type=float, default=10.0)
    decoder = commands.add_parser("decode", help=".npz to picture", description=decode.__doc__)
    decoder.set_defaults(run=decode)
    decoder.add_argument("received", type=Path)
    decoder.add_argument("picture", type=Path)
    decoder.add_argument("--steps", type=int)
    for command in (encoder, decoder):
        command.add_argument("--model", default="lrisc")
        command.add_argument("--seed", type=_seed, default=0)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (LinkError, ModelError, SdrError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
