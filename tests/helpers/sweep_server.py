"""A stand-in for the W&B server on the loopback: what an agent asks for its trials, and what their runs send."""

import gzip
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

SWEEP = "abcd1234"
PROJECT = {"id": "1", "name": "ground-glass", "entity": {"id": "1", "name": "me"}}


class SweepServer(ThreadingHTTPServer):
    """Hands out one trial after the other, and stops those for which it is asked to.

    Attributes:
        sweep: The sweep file that `wandb sweep` uploaded, YAML.
        config: What each run said of its configuration, by run id.
        history: The rows that each run logged, those logged twice twice.
        summary: The last summary of each run.
        exit_codes: How each run's writers ended; one that has two writers ends twice.
        received: All that runs sent.
        seconds_to_stop: How long each stopped trial's processes lived on after its agent was told.
    """

    daemon_threads = True

    def __init__(self, trials: list[dict[str, Any]], stop: Callable[[str], bool] = lambda run_id: False) -> None:
        """
        Args:
            trials: Value by parameter, of each.
            stop: Whether a running trial is to be stopped, asked at every heartbeat of the agent.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.trials, self.stop = trials, stop
        self.sweep = ""
        self.config: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.summary: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, list[int]] = defaultdict(list)
        self.received: list[bytes] = []
        self.seconds_to_stop: dict[str, float] = {}
        self._handed_out = 0
        self._one_agent_at_a_time = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL request."""
        if operation == "Viewer":
            return {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertSweep":
            self.sweep = variables["config"]
            return {
                "upsertSweep": {"sweep": {"id": "1", "name": SWEEP, "project": PROJECT}, "configValidationWarnings": []}
            }
        if operation == "SweepWithRuns":
            sweep = {"id": "1", "name": SWEEP, "state": "RUNNING", "config": self.sweep, "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": "1"}}}
        if operation == "Heartbeat":
            with self._one_agent_at_a_time:
                commands = self._commands(list(json.loads(variables["runState"])))
            return {"agentHeartbeat": {"agent": {"id": "1"}, "commands": json.dumps(commands)}}
        if operation == "UpsertBucket":
            self.received.append(json.dumps(variables).encode())
            return self._described(variables)
        if operation == "CreateArtifact":  # of a table; it has this one already, so nothing is uploaded
            sequence = {"id": "1", "latestArtifact": {"id": "1", "versionIndex": 0}}
            artifact = {"id": "1", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if operation == "ArtifactType":
            return {"project": None}  # no table of that name yet
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        return {}

    def _commands(self, running: list[str]) -> list[dict[str, Any]]:
        if not running:
            if self._handed_out == len(self.trials):
                return [{"type": "exit"}]
            trial = self.trials[self._handed_out]
            args = {name: {"value": value} for name, value in trial.items()}
            self._handed_out += 1
            program = yaml.safe_load(self.sweep)["program"]
            return [{"type": "run", "run_id": f"trial{self._handed_out}", "program": program, "args": args}]
        for run_id in running:
            if run_id not in self.seconds_to_stop and self.stop(run_id):
                self.seconds_to_stop[run_id] = float("inf")
                threading.Thread(target=self._time, args=(run_id,), daemon=True).start()
        return [{"type": "stop", "run_id": run_id} for run_id in running if run_id in self.seconds_to_stop]

    def _time(self, run_id: str) -> None:
        start = time.monotonic()
        while ranks_of(run_id):
            time.sleep(0.05)
        self.seconds_to_stop[run_id] = time.monotonic() - start

    def _described(self, variables: dict[str, Any]) -> dict[str, Any]:
        config = {key: entry["value"] for key, entry in json.loads(variables["config"] or "{}").items()}
        inserted = variables["name"] not in self.config
        self.config[variables["name"]] = config
        bucket = {"id": "1", "name": variables["name"], "config": "{}", "sweepName": SWEEP, "project": PROJECT}
        return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": inserted}}

    def receive(self, run_id: str, stream: dict[str, Any]) -> None:
        """What a run sends of its files."""
        lines = stream.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        self.history[run_id] += map(json.loads, lines)
        if summary := stream.get("files", {}).get("wandb-summary.json", {}).get("content", []):
            self.summary[run_id] = json.loads(summary[-1])
        if stream.get("complete"):
            self.exit_codes[run_id].append(stream["exitcode"])


class _Handler(BaseHTTPRequestHandler):
    server: SweepServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._reply({"data": self.server.answer(operation[1] if operation else "", asked.get("variables") or {})})
            return
        if stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.server.received.append(body)
            self.server.receive(stream[1], json.loads(body))
        self._reply({})

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(server: SweepServer) -> Iterator[SweepServer]:
    """The server at work until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ranks_of(run_id: str) -> list[int]:
    """The processes of train.py that live for a trial, by their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:  # it has ended
            continue
        if b"train.py" in command and f"WANDB_RUN_ID={run_id}".encode() in environment.split(b"\0"):
            found.append(int(process.name))
    return found
