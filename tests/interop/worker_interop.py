#!/usr/bin/python3
"""Drives a real `agent worker` with a stock gRPC server: worker_interop.py build/agent

Speaks the worker protocol with code generated from proto/worker.proto, so that the wire form is checked by an
implementation that is not ours. Needs python3-grpcio and python3-grpc-tools. Exit status 0: all scenarios passed.
"""
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc
from grpc_tools import protoc

HERE = os.path.dirname(os.path.abspath(__file__))
PROTO_DIR = os.path.join(HERE, "..", "..", "proto")
GENERATED = tempfile.mkdtemp(prefix="worker-interop-")
protoc.main(["protoc", "-I" + PROTO_DIR, "--python_out=" + GENERATED, "--grpc_python_out=" + GENERATED,
             os.path.join(PROTO_DIR, "worker.proto")])
sys.path.insert(0, GENERATED)
import worker_pb2 as pb  # noqa: E402
import worker_pb2_grpc as pb_grpc  # noqa: E402

KEY = "key-for-interop-only"
WAIT = 20


class Connection:
    """One Connect stream, as the server sees it."""

    def __init__(self, context, key):
        self.context, self.key = context, key
        self.frames = queue.Queue()  # from the worker; None: it ended
        self.out = queue.Queue()
        self.seq = self.received = 0

    def send(self, **body):
        name = next(iter(body))
        numbered = name in ("call", "cancel", "result_ack", "release")
        self.seq += numbered
        self.out.put(pb.ServerFrame(seq=self.seq if numbered else 0, ack=self.received, **body))

    def frame(self, kind):
        """The next frame of that kind; others are skipped."""
        deadline = time.monotonic() + WAIT
        while True:
            f = self.frames.get(timeout=max(0.01, deadline - time.monotonic()))
            assert f is not None, "the stream ended while waiting for " + kind
            if f.seq:
                assert f.seq == self.received + 1, "gap: %d after %d" % (f.seq, self.received)
                self.received = f.seq
            if f.WhichOneof("body") == kind:
                return getattr(f, kind)

    def call(self, call_id, agent="bc-1", **what):
        self.send(call=pb.Call(call_id=call_id, agent_id=agent, run_id="run-1", **what))

    def tool(self, call_id, command, agent="bc-1"):
        args = json.dumps({"command": command})
        self.call(call_id, agent, kind=pb.TOOL, name="run_terminal_cmd", arguments_json=args)

    def result(self, call_id, ack=True):
        r = self.frame("result")
        assert r.call_id == call_id, r
        if ack:
            self.send(result_ack=pb.ResultAck(call_id=call_id))
        return r

    def end(self):
        self.out.put(None)

    def ended(self):
        deadline = time.monotonic() + WAIT
        while self.frames.get(timeout=max(0.01, deadline - time.monotonic())) is not None:
            pass


class Service(pb_grpc.WorkerLinkServicer):
    def __init__(self):
        self.connections = queue.Queue()

    def Connect(self, requests, context):
        key = dict(context.invocation_metadata()).get("authorization", "")
        if key != "Bearer " + KEY:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown key")
        c = Connection(context, key)

        def read():
            try:
                for f in requests:
                    c.frames.put(f)
            except Exception:
                pass
            c.frames.put(None)

        threading.Thread(target=read, daemon=True).start()
        self.connections.put(c)
        while True:
            f = c.out.get()
            if f is None:
                return
            yield f


class Bench:
    """A server, a workspace, and workers."""

    def __init__(self, agent):
        self.agent = agent
        self.service = Service()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=20))
        pb_grpc.add_WorkerLinkServicer_to_server(self.service, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.dir = tempfile.mkdtemp(prefix="worker-interop-root-")
        self.data = tempfile.mkdtemp(prefix="worker-interop-data-")
        # The workspace is the session's own; here it and the test see the same files.
        self.shared = tempfile.mkdtemp(prefix="worker-interop-shared-")

    def worker(self, *options, key=KEY):
        env = dict(os.environ, CURSOR_API_KEY=key, CURSOR_WORKER_SESSION_SHARE=self.shared)
        return subprocess.Popen(
            [self.agent, "worker", "start", "--pool", "ci", "--worker-dir", self.dir, "--data-dir", self.data,
             "--endpoint", "http://127.0.0.1:%d" % self.port, *options],
            env=env, stdout=subprocess.PIPE, stderr=open(os.path.join(self.data, "log"), "ab"), text=True)

    def accept(self, incarnation=7, resume=None):
        """The next connection, welcomed."""
        c = self.service.connections.get(timeout=WAIT)
        c.hello = c.frame("hello")
        if resume is not None:
            c.seq, c.received = resume.seq, resume.received
        c.send(welcome=pb.Welcome(server_incarnation=incarnation, resumed=resume is not None,
                                  received_seq=c.received, heartbeat_interval_ms=15000))
        return c

    def log(self):
        return open(os.path.join(self.data, "log")).read()


def stop(worker, status=0, signum=signal.SIGTERM):
    worker.send_signal(signum)
    assert worker.wait(timeout=WAIT) == status, worker.returncode


def serves_a_session(b):
    w = b.worker()
    c = b.accept()
    h = c.hello
    assert h.protocol_version == 1 and h.pool == "ci" and h.incarnation != 0 and h.server_incarnation == 0, h
    assert h.worker_id and h.name and h.roots[0].path == os.path.realpath(b.dir), h
    lines = [w.stdout.readline().strip() for _ in range(3)]
    assert lines == ["Worker is now running", "Registering to worker pool", "Pool: ci"], lines
    c.send(heartbeat=pb.Heartbeat(nonce=42))
    assert c.frame("heartbeat").nonce == 42

    c.tool("early", "true")
    r = c.result("early")
    assert r.outcome == pb.CallResult.ERROR and json.loads(r.result_json)["code"] == "no_session", r
    c.call("open", kind=pb.OPEN_SESSION)
    r = c.result("open")
    assert r.outcome == pb.CallResult.SUCCESS, r
    assert len(json.loads(r.result_json)["workspaceRoots"]) == 1, r

    c.tool("t1", "echo one; echo two >&2; env")
    out = c.frame("output")
    assert out.call_id == "t1" and out.data, out
    r = c.result("t1")
    assert r.outcome == pb.CallResult.SUCCESS and "one" in r.result_json, r
    assert KEY not in r.result_json, "the key reached a tool"
    c.tool("t2", "exit 3")
    assert c.result("t2").outcome == pb.CallResult.FAILURE
    stop(w)
    assert c.frame("going_away").reason


def ends_calls(b):
    w = b.worker()
    c = b.accept()
    c.call("open", kind=pb.OPEN_SESSION)
    c.result("open")
    c.tool("slow", "echo begun; sleep 600")
    c.frame("output")
    c.send(cancel=pb.CancelCall(call_id="slow"))
    c.result("slow")
    c.send(call=pb.Call(call_id="limited", agent_id="bc-1", limit_ms=500, kind=pb.TOOL,
                       name="run_terminal_cmd", arguments_json='{"command": "sleep 600"}'))
    start = time.monotonic()
    c.result("limited")
    assert time.monotonic() - start < WAIT / 2
    # Another agent takes over: the old session is closed, the old agent's calls end.
    c.tool("old", "sleep 600")
    c.call("open2", agent="bc-2", kind=pb.OPEN_SESSION)
    c.result("old")
    assert c.result("open2").outcome == pb.CallResult.SUCCESS
    c.tool("stranger", "true")
    assert json.loads(c.result("stranger").result_json)["code"] == "no_session"
    # SIGINT aborts, and the result is still delivered.
    c.tool("last", "echo begun; sleep 600", agent="bc-2")
    c.frame("output")
    w.send_signal(signal.SIGINT)
    c.result("last")
    assert w.wait(timeout=WAIT) == 0


def streams_much_output(b):
    w = b.worker()
    c = b.accept()
    c.call("open", kind=pb.OPEN_SESSION)
    c.result("open")
    start = time.monotonic()
    c.tool("big", "head -c 3000000 /dev/zero | tr '\\0' x")
    got = 0
    while True:
        f = c.frames.get(timeout=WAIT)
        c.received = f.seq or c.received
        if f.WhichOneof("body") == "result":
            break
        if f.WhichOneof("body") == "output":
            assert len(f.output.data) <= 16 * 1024
            got += len(f.output.data)
            c.send(result_ack=pb.ResultAck(call_id="nothing"))  # carries the acknowledgement
    assert 900 * 1024 <= got <= 1024 * 1024, got
    print("    %d bytes streamed, %.2f s" % (got, time.monotonic() - start))
    stop(w)


def resumes(b):
    w = b.worker()
    c = b.accept()
    c.call("open", kind=pb.OPEN_SESSION)
    c.result("open")
    marker = os.path.join(b.shared, "count")
    c.tool("counted", "cd %s; echo x >> count; echo begun; until test -e go; do sleep 0.02; done; echo done" % b.shared)
    c.frame("output")
    c.end()
    c2 = b.accept(resume=c)
    assert c2.hello.server_incarnation == 7 and c2.hello.agent_id == "bc-1", c2.hello
    assert c2.hello.received_seq == c.seq, c2.hello
    assert [(s.call_id, s.finished) for s in c2.hello.calls] == [("counted", False)], c2.hello
    open(os.path.join(b.shared, "go"), "w").close()
    r = c2.result("counted", ack=False)
    assert "done" in r.result_json
    # A server that starts again gets the result again, and a repeated call is not repeated.
    c2.end()
    c3 = b.accept(incarnation=8)
    assert [(s.call_id, s.finished) for s in c3.hello.calls] == [("counted", True)], c3.hello
    c3.result("counted", ack=False)
    c3.tool("counted", "echo x >> %s" % marker)
    c3.result("counted")
    assert open(marker).read() == "x\n"
    stop(w)


def is_refused(b):
    w = b.worker(key="wrong")
    assert w.wait(timeout=WAIT) == 3
    w = b.worker()
    c = b.service.connections.get(timeout=WAIT)
    c.frame("hello")
    c.send(refuse=pb.Refuse(code="claim_mismatch", message="the pool differs", fatal=True))
    assert w.wait(timeout=WAIT) == 4
    assert "error: the pool differs" in b.log()
    w = b.worker()
    c = b.service.connections.get(timeout=WAIT)
    c.frame("hello")
    c.send(refuse=pb.Refuse(code="busy", message="later", fatal=False, retry_after_ms=1200))
    start = time.monotonic()
    c = b.accept()
    assert time.monotonic() - start >= 1.1
    c.send(release=pb.Release(reason="done", exit=True))
    assert w.wait(timeout=WAIT) == 0


def keeps_its_identity(b):
    w = b.worker()
    first = b.accept().hello.worker_id
    second = b.worker()
    assert second.wait(timeout=WAIT) == 5
    assert "process %d" % w.pid in b.log()
    stop(w)
    w = b.worker()
    c = b.accept()
    assert c.hello.worker_id == first
    start = time.monotonic()
    stop(w)
    assert time.monotonic() - start < 2
    assert KEY not in b.log()


def running(mark):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark.encode() in open("/proc/%s/cmdline" % pid, "rb").read():
                return True
        except OSError:
            pass
    return False


def second_signal_forces(b):
    w = b.worker()
    c = b.accept()
    c.call("open", kind=pb.OPEN_SESSION)
    c.result("open")
    # Found by its command line: in its box it has another pid.
    mark = "slow-" + os.path.basename(b.shared)
    c.tool("slow", "trap '' TERM; echo %s; while :; do sleep 1; done" % mark)
    c.frame("output")
    assert running(mark)
    w.send_signal(signal.SIGTERM)
    c.frame("going_away")
    w.send_signal(signal.SIGTERM)
    assert w.wait(timeout=WAIT) == 143
    assert not running(mark), "the tool's process is left"


def main():
    scenarios = [serves_a_session, ends_calls, streams_much_output, resumes, is_refused, keeps_its_identity,
                 second_signal_forces]
    failed = 0
    for scenario in scenarios:
        b = Bench(os.path.abspath(sys.argv[1]))
        try:
            scenario(b)
            print("ok   " + scenario.__name__)
        except BaseException as e:
            failed += 1
            print("FAIL %s: %r\n%s" % (scenario.__name__, e, b.log()[-3000:]))
            if isinstance(e, KeyboardInterrupt):
                raise
        b.server.stop(0)
    return failed != 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Streams that nobody ended keep threads of the server busy, for which a normal exit would wait.
    os._exit(status)
