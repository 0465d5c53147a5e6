#!/usr/bin/env python3
"""A fleet controller in sixty lines: claims what waits and starts a worker for it.  controller.py POOL PROGRAM
Environment: CURSOR_API_KEY (a service account's), CURSOR_API_ENDPOINT. The program gets CURSOR_AGENT_WORKER_ID and CURSOR_POOL.
"""
import json, os, subprocess, sys, time, urllib.error, urllib.parse, urllib.request, uuid

BASE, KEY = os.environ["CURSOR_API_ENDPOINT"].rstrip("/"), os.environ["CURSOR_API_KEY"]
POOL, PROGRAM = sys.argv[1], sys.argv[2]


def call(method, path, body=None, stream=False, **query):
    url = f"{BASE}/v0/private-workers{path}" + ("?" + urllib.parse.urlencode(query) if query else "")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    answer = urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60)
    return answer if stream else json.load(answer)


def start(request):
    worker = request.get("claimedWorkerId") or f"ctrl-{uuid.uuid4()}"  # a machine that sleeps is woken under its id
    try:
        call("POST", "/claim", {"id": request["id"], "workerId": worker})
    except urllib.error.HTTPError as e:
        if e.code in (404, 409):  # gone, or somebody else was faster
            return
        raise
    print(f"{request['id']}: starting {worker}", flush=True)
    env = {**os.environ, "CURSOR_AGENT_WORKER_ID": worker, "CURSOR_POOL": POOL, "CURSOR_REQUEST_ID": request["id"]}
    if subprocess.call([PROGRAM], env=env) != 0:
        call("POST", f"/claims/{request['id']}/fail", {"message": f"{PROGRAM} did not start a worker"})


def list_pending():
    page = {}
    while True:
        page = call("GET", "/pending-requests", pool=POOL, **({"pageToken": page["nextPageToken"]} if page else {}))
        for request in page["requests"]:
            start(request)
        if "nextPageToken" not in page:
            return page["streamCursor"]


def watch(cursor):
    with call("GET", "/pending-requests/stream", stream=True, cursor=cursor, pool=POOL) as lines:
        event = None
        for line in lines:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event in ("created", "claimed_offline"):
                start(json.loads(value))


call("POST", "/pools", {"scope": "team", "poolName": POOL})
while True:  # the list is the truth; a watch lives five minutes and ends with 410, then the list is read again
    try:
        watch(list_pending())
    except (OSError, urllib.error.HTTPError) as problem:
        if getattr(problem, "code", 410) != 410:
            print(problem, flush=True)
        time.sleep(1)
