#!/usr/bin/python3
"""A worker built on a stock grpcio client: grpcio_peer.py serve|statuses TARGET [CA_FILE]

Code is generated from proto/worker.proto when it starts. Keys come in the environment: POOL_KEY, USER_KEY. Says one JSON
object a line. `serve` registers, says {"ready": …} and serves one run; `statuses` says with which status each wrong use
ended.
"""
import json
import os
import queue
import random
import sys
import tempfile
import threading

import grpc
from grpc_tools import protoc

HERE = os.path.dirname(os.path.abspath(__file__))
PROTO_DIR = os.path.join(HERE, "..", "..", "proto")
GENERATED = tempfile.TemporaryDirectory(prefix="grpcio-peer-")
protoc.main(["protoc", "-I" + PROTO_DIR, "--python_out=" + GENERATED.name, "--grpc_python_out=" + GENERATED.name,
             os.path.join(PROTO_DIR, "worker.proto")])
sys.path.insert(0, GENERATED.name)
import worker_pb2 as pb  # noqa: E402
import worker_pb2_grpc as pb_grpc  # noqa: E402

PATH = "/bullpen.worker.v1.WorkerLink/"
WAIT = 60


def say(**what):
    print(json.dumps(what), flush=True)


def open_channel():
    target, ca = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
    if ca is None:
        return grpc.insecure_channel(target)
    with open(ca, "rb") as f:
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(f.read()))


def metadata(key):
    return [("authorization", "Bearer " + key)] if key else []


def hello(**more):
    fields = dict(protocol_version=1, incarnation=random.getrandbits(63) | 1, worker_id="grpcio-%d" % os.getpid(),
                  name="a stock client", os="linux", arch="x86_64", version="1",
                  roots=[pb.Root(path="/nowhere", remote_url="https://github.com/acme/web", host="github.com",
                                 repo="acme/web")])
    fields.update(more)
    return pb.WorkerFrame(hello=pb.Hello(**fields))


class Link:
    """One Connect stream."""

    def __init__(self, channel, key, timeout=None):
        self.out = queue.Queue()
        self.seq = self.received = 0
        self.call = pb_grpc.WorkerLinkStub(channel).Connect(iter(self.out.get, None), metadata=metadata(key),
                                                            timeout=timeout)

    def send(self, **body):
        numbered = next(iter(body)) in ("output", "result", "going_away")
        self.seq += numbered
        self.out.put(pb.WorkerFrame(seq=self.seq if numbered else 0, ack=self.received, **body))

    def frames(self):
        for f in self.call:
            if f.seq:
                assert f.seq == self.received + 1, "gap: %d after %d" % (f.seq, self.received)
                self.received = f.seq
            yield f

    def status(self):
        """How the stream ends; what comes before is thrown away."""
        try:
            for _ in self.call:
                pass
            return "OK", ""
        except grpc.RpcError as e:
            return e.code().name, e.details()


SESSION = {"workspaceRoots": ["/nowhere"], "repoUrl": "", "branch": "cursor/grpcio", "baseCommit": "", "headCommit": "",
           "gitStatus": "", "os": "linux", "arch": "x86_64", "shell": "bash", "rules": [], "agentsMd": [],
           "warnings": [], "resumed": False,
           "tools": [{"name": "act", "description": "does something", "class": "mutating", "sdkType": "mcp",
                      "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}]}
PUBLICATION = {"branch": "cursor/grpcio", "repoUrl": "", "commit": "0" * 40, "committed": True, "pushed": True,
               "filesChanged": 1, "linesAdded": 2, "linesRemoved": 0, "diffStat": ""}


def serve():
    """Until the result of the publication is acknowledged."""
    link = Link(open_channel(), os.environ["POOL_KEY"])
    link.out.put(hello())
    published = None
    for f in link.frames():
        kind = f.WhichOneof("body")
        if kind == "welcome":
            say(ready=True)
        elif kind == "heartbeat":
            link.send(heartbeat=pb.Heartbeat(nonce=f.heartbeat.nonce))
        elif kind == "result_ack" and f.result_ack.call_id == published:
            break
        elif kind == "call":
            call, what = f.call, pb.CallKind.Name(f.call.kind)
            say(call=what, arguments=call.arguments_json)
            result = {"OPEN_SESSION": SESSION, "PUBLISH": PUBLICATION}.get(what, {"said": "hello from grpcio"})
            if what == "TOOL":
                link.send(output=pb.CallOutput(call_id=call.call_id, stream=1, data=b"working\n"))
            if what == "PUBLISH":
                published = call.call_id
            link.send(result=pb.CallResult(call_id=call.call_id, outcome=pb.CallResult.SUCCESS,
                                           result_json=json.dumps(result), model_text="done", duration_ms=1))
    link.send(going_away=pb.GoingAway(reason="done"))
    link.out.put(None)
    code, details = link.status()
    say(ended=code, details=details)


def raw_stream(channel, messages, method="Connect", key=None):
    """Bytes instead of messages."""
    call = channel.stream_stream(PATH + method)(iter(messages), metadata=metadata(key or os.environ["POOL_KEY"]))
    try:
        for _ in call:
            pass
        return "OK", ""
    except grpc.RpcError as e:
        return e.code().name, e.details()


def keyed(channel, key):
    link = Link(channel, key)
    link.out.put(hello())
    return link.status()


def cancelled(channel):
    link = Link(channel, os.environ["POOL_KEY"])
    link.out.put(hello(worker_id="cancels"))
    assert next(link.frames()).WhichOneof("body") == "welcome"
    link.call.cancel()
    return link.status()


def overdue(channel):
    link = Link(channel, os.environ["POOL_KEY"], timeout=1)
    link.out.put(hello(worker_id="overdue"))
    return link.status()


def unary(channel, key):
    try:
        channel.unary_unary(PATH + "Nothing")(b"", metadata=metadata(key), timeout=WAIT)
        return "OK", ""
    except grpc.RpcError as e:
        return e.code().name, e.details()


def shut_down(channel):
    """Says that it is connected; whoever reads this stops the server."""
    link = Link(channel, os.environ["POOL_KEY"])
    link.out.put(hello(worker_id="stays"))
    assert next(link.frames()).WhichOneof("body") == "welcome"
    say(connected=True)
    return link.status()


def statuses():
    channel = open_channel()
    pool, user = os.environ["POOL_KEY"], os.environ["USER_KEY"]
    never = threading.Event()

    def forever(first):
        yield first
        never.wait(WAIT)

    for name, result in [
            ("no key", lambda: keyed(channel, None)),
            ("wrong key", lambda: keyed(channel, "crsr_wrong")),
            ("user key", lambda: keyed(channel, user)),
            ("unknown method", lambda: unary(channel, pool)),
            ("unknown method without key", lambda: unary(channel, None)),
            ("unknown method, streaming", lambda: raw_stream(channel, forever(b"x"), method="Other")),
            ("garbage", lambda: raw_stream(channel, forever(b"\xff" * 100))),
            ("too large", lambda: raw_stream(channel, forever(b"\0" * (80 << 20)))),
            ("registration", lambda: raw_stream(channel, forever(hello(protocol_version=2).SerializeToString()))),
            ("cancel", lambda: cancelled(channel)),
            ("deadline", lambda: overdue(channel)),
            ("shutdown", lambda: shut_down(channel))]:
        code, details = result()
        say(case=name, code=code, details=details)
    never.set()


if __name__ == "__main__":
    {"serve": serve, "statuses": statuses}[sys.argv[1]]()
