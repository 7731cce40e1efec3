"""The service under kills, hangs, poison, floods and strangers: nothing is lost, nothing comes twice, it stays up."""

import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.client import DecoderGone, open_decoder
from models.errors import ModelError
from models.keys import create_keys, is_loopback
from models.protocol import VERSION, Bye, Ping, Refusal, decode, encode
from models.server import Server
from tests.models.service import FAKE, collect, connect, make_model, serving, submit


def wait_for(condition: object, limit_s: float = 40.0) -> None:
    assert callable(condition)
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def pids(server: Server) -> list[int]:
    return [worker.process.pid for worker in server._crew.workers.values()]


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_killed_in_the_middle_of_an_image_loses_nothing(tmp_path: Path, signal_number: int) -> None:
    with serving(tmp_path, ("cpu", "cpu"), batch=4) as server, connect(tmp_path) as decoder:
        wait_for(lambda: len(server.stats()["workers"]) == 2)
        for number in range(8):
            submit(decoder, str(number), -3)
        wait_for(lambda: all(worker.tickets for worker in server._crew.workers.values()))
        os.kill(pids(server)[0], signal_number)
        results = collect(decoder, 8)
        assert decoder.poll(0.5) == []
        wait_for(lambda: len(server.stats()["workers"]) == 2)
        assert server.stats()["restarts"] == 1
    assert all(result.error is None for result in results.values())


def test_with_one_worker_its_successor_finishes(tmp_path: Path) -> None:
    with serving(tmp_path) as server, connect(tmp_path) as decoder:
        wait_for(lambda: server.stats()["workers"])
        submit(decoder, "only", -3)
        wait_for(lambda: next(iter(server._crew.workers.values())).tickets)
        os.kill(pids(server)[0], signal.SIGKILL)
        assert collect(decoder, 1)["only"].error is None


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, patience_s=2.5) as server, connect(tmp_path) as decoder:
        wait_for(lambda: server.stats()["workers"])
        submit(decoder, "good", 5)
        collect(decoder, 1)
        os.kill(pids(server)[0], signal.SIGSTOP)
        submit(decoder, "after", 6)
        assert collect(decoder, 1)["after"].error is None
        assert server.stats()["restarts"] >= 1


def test_a_picture_that_ends_worker_after_worker_is_given_up_and_blames_no_other(tmp_path: Path) -> None:
    with serving(tmp_path) as server, connect(tmp_path) as decoder:
        for number in range(3):
            submit(decoder, f"before {number}", number)
        submit(decoder, "poison", -1)
        for number in range(3):
            submit(decoder, f"after {number}", number)
        results = collect(decoder, 7)
        assert results.pop("poison").error == "decoding it ended 3 workers, so it was given up"
        assert all(result.error is None for result in results.values())
        assert server.stats()["restarts"] == 3


def test_a_queue_is_shared_out_among_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_WORKER_LOG", str(log))
    with serving(tmp_path, ("cpu", "cpu")) as server, connect(tmp_path) as decoder:
        wait_for(lambda: len(server.stats()["workers"]) == 2)
        for number in range(8):
            submit(decoder, str(number), -3)
        collect(decoder, 8)
    by_worker = [line.split()[0] for line in log.read_text().splitlines()]
    assert len(by_worker) == 8 and max(by_worker.count(pid) for pid in by_worker) <= 6


def test_jobs_of_a_client_that_left_are_dropped(tmp_path: Path) -> None:
    with serving(tmp_path, batch=1) as server:
        with connect(tmp_path) as decoder:
            for number in range(5):
                submit(decoder, str(number), -3)
            wait_for(lambda: server.stats()["queued"] == 5)
        wait_for(lambda: server.stats()["queued"] == 0)
        assert server.done < 5


@pytest.mark.parametrize(
    ("device", "reason"),
    [("broken", "the device 'broken' cannot be had"), ("crash", "worker on crash ends while it loads .exit code 7")],
)
def test_a_model_that_does_not_load_ends_the_service_and_is_told_to_clients(
    tmp_path: Path, device: str, reason: str
) -> None:
    model = make_model(tmp_path / "grey")
    server = Server(f"ipc://{tmp_path}/service", model, (device,), worker=FAKE)
    try:
        with connect(tmp_path) as decoder:
            submit(decoder, "picture", 1)
            with pytest.raises(ModelError, match=reason):
                server.run(lambda: False)
            error = collect(decoder, 1)["picture"].error
        assert error is not None and error.startswith(("the device 'broken'", "the decoder's worker on crash"))
    finally:
        server.close()


# ---------------------------------------------------------------- strangers


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    folder = tmp_path_factory.mktemp("service")
    with serving(folder) as server:
        yield folder, server


@pytest.fixture(scope="module")
def stranger(service: tuple[Path, Server]) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as connection:
        connection.linger = 0
        connection.connect(f"ipc://{service[0]}/service")
        yield connection


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.binary(max_size=80), min_size=1, max_size=9))
def test_garbage_is_refused_counted_and_survived(
    service: tuple[Path, Server], stranger: zmq.Socket[bytes], frames: list[bytes]
) -> None:
    before = service[1].stats()["refused"].get("malformed", 0)
    stranger.send_multipart(frames)
    assert stranger.poll(20_000)
    assert isinstance(decode(stranger.recv_multipart()), Refusal)
    assert service[1].stats()["refused"]["malformed"] == before + 1


def test_after_garbage_the_service_still_works(service: tuple[Path, Server]) -> None:
    with connect(service[0]) as decoder:
        submit(decoder, "good", 9)
        assert collect(decoder, 1)["good"].error is None


def test_a_client_of_another_version_is_refused_with_both_numbers(
    service: tuple[Path, Server], stranger: zmq.Socket[bytes]
) -> None:
    frames = encode(Ping("grey", b"", ()))
    frames[0] = frames[0][:4] + bytes((VERSION + 1,)) + frames[0][5:]
    stranger.send_multipart(frames)
    answer = decode(stranger.recv_multipart())
    assert isinstance(answer, Refusal)
    assert f"speaks version {VERSION + 1} of the protocol, this one version {VERSION}" in answer.reason
    assert service[1].stats()["refused"]["other version"] == 1


def test_a_service_of_another_version_is_named_as_that(tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as other, connect(tmp_path) as decoder:
        other.bind(f"ipc://{tmp_path}/service")
        submit(decoder, "picture", 1)
        decoder.poll(1.5)  # sends a ping, by which the service knows the way
        sender, *_ = other.recv_multipart()
        head = encode(Bye())[0]
        other.send_multipart([sender, head[:4] + bytes((VERSION + 1,)) + head[5:]])
        error = collect(decoder, 1)["picture"].error
    assert error is not None and "speaks version 2 of the protocol, this one version 1; install the same" in error


def test_a_service_without_the_model_says_which_it_has(service: tuple[Path, Server]) -> None:
    address = f"zmq:ipc://{service[0]}/service"
    with pytest.raises(DecoderGone, match="has the model 'grey', not 'lrisc'"):
        open_decoder(address, "lrisc")
    make_model(service[0] / "other" / "grey", "other weights")
    with open_decoder(address, "grey"):
        pass  # known by its name alone


def test_what_does_not_even_speak_zeromq_is_counted(tmp_path: Path) -> None:
    model = make_model(tmp_path / "grey")
    server = Server("tcp://127.0.0.1:*", model, ("cpu",), worker=FAKE)
    try:
        host, port = server.address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * 64)
            connection.shutdown(socket.SHUT_WR)
            until = time.monotonic() + 20
            server.run(lambda: bool(server.stats()["refused"]) or time.monotonic() > until)
        assert server.stats()["refused"] == {"failed handshake": 1}
    finally:
        server.close()


def test_an_address_that_is_taken_is_said_in_one_line(service: tuple[Path, Server], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ModelError, match="choose another address"):
        port = taken.getsockname()[1]
        Server(f"tcp://127.0.0.1:{port}", make_model(tmp_path / "grey"), worker=FAKE)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("tcp://127.0.0.1:5755", True),
        ("tcp://127.9.9.9:*", True),
        ("tcp://localhost:5755", True),
        ("tcp://[::1]:5755", True),
        ("ipc:///run/lrisc", True),
        ("tcp://0.0.0.0:5755", False),
        ("tcp://*:5755", False),
        ("tcp://eth0:5755", False),
        ("tcp://[::]:5755", False),
        ("tcp://192.168.1.2:5755", False),
        ("tcp://127.0.0.1.example.org:5755", False),
    ],
)
def test_what_is_loopback(address: str, inside: bool) -> None:
    assert is_loopback(address) is inside


def test_nothing_but_loopback_is_served_or_asked_without_keys(tmp_path: Path) -> None:
    for attempt in (
        lambda: Server("tcp://0.0.0.0:*", make_model(tmp_path / "grey"), worker=FAKE),
        lambda: open_decoder("zmq:tcp://192.0.2.1:5755", "lrisc"),
    ):
        with pytest.raises(ModelError, match="give --keys FOLDER"):
            attempt()


def test_keys_are_made_once_and_for_the_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    create_keys(folder)
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(contents) == {"client.key", "client.key_secret", "server.key", "server.key_secret"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    create_keys(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


@pytest.mark.parametrize("damage", ["missing", "readable", "empty"])
def test_keys_that_cannot_be_used_are_said(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "keys"
    create_keys(folder)
    path = folder / "server.key_secret"
    match damage:
        case "missing":
            path.unlink()
        case "readable":
            path.chmod(0o644)
        case "empty":
            path.write_text("")
    with pytest.raises(ModelError, match=r"server\.key_secret|damaged|cannot be read"):
        Server("tcp://0.0.0.0:*", make_model(tmp_path / "grey"), keys=folder, worker=FAKE)


def test_the_right_key_gets_through_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.client._GREETING_S", 1.0)
    keys, stolen = tmp_path / "keys", tmp_path / "stolen"
    for folder in (keys, stolen):
        create_keys(folder)
    (stolen / "server.key").write_bytes((keys / "server.key").read_bytes())  # public; the client's pair is another
    with serving(tmp_path, keys=keys) as server:
        address = f"zmq:ipc://{tmp_path}/service"
        with open_decoder(address, "grey", keys) as decoder:
            submit(decoder, "good", 4)
            assert collect(decoder, 1)["good"].error is None
        for wrong in (stolen, None):
            with pytest.raises(DecoderGone, match=r"does not accept this client|does not answer"):
                open_decoder(address, "grey", wrong)
        assert server.stats()["refused"]["unknown key"] >= 1
