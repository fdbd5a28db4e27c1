"""Runs the examples of docs/serve.md with curl and Python against a `kinora serve` that this script starts, and asks for a plan of its requests.

    pip install openai==3.57.0 PyJWT==2.15.1 requests==2.34.2 standardwebhooks==1.1.0
    python scripts/serve/examples.py target/debug/kinora
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import requests
from standardwebhooks.webhooks import Webhook

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "serve.md"
# A clip of the size that the examples name takes as long as one of that size does.
PATIENCE = 300


def blocks(text):
    """The language and the text of every block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


class Examples:
    """A server, and what the document leaves open: its address, keys, names of clips and files."""

    def __init__(self, program, folder):
        data = str(folder / "data")
        command = lambda *words: subprocess.run([program, *words, "--data", data], check=True, capture_output=True, text=True).stdout
        said = command("keys", "add", "anna", "--tier", "local")
        self.key, access, secret = said.split("\n")[0], *re.findall(r"(?:access|secret) key  (\S+)", said)
        self.hook = command("hooks", "secret", "--owner", "anna").split("\n")[0]
        self.server = subprocess.Popen([program, "serve", "--port", "0", "--data", data], stderr=subprocess.PIPE, text=True)
        self.url = self.server.stderr.readline().split()[-1]
        self.words = {"http://127.0.0.1:7788": self.url, "kin_…": self.key, "ak_…": access, "sk_…": secret, "whsec_…": self.hook}
        self.folder = folder

    def ask(self, method, path, **more):
        answer = requests.request(method, self.url + path, headers={"Authorization": f"Bearer {self.key}"}, timeout=60, **more)
        assert answer.ok, (path, answer.status_code, answer.text)
        return answer.json()

    def filled(self, text):
        for word, own in self.words.items():
            text = text.replace(word, own)
        return text

    def finished(self, clip):
        start = time.time()
        while (status := self.ask("GET", f"/v1/videos/{clip}")["status"]) in ("queued", "in_progress"):
            assert time.time() - start < PATIENCE, status
            time.sleep(0.2)
        assert status == "completed", status

    def shell(self, text):
        """Runs the commands of a block, one after another; a clip that one of them asks for is made before the next."""
        header = "" if "Bearer" in text else f' -H "Authorization: Bearer {self.key}"'
        env = {**os.environ}
        for line in self.filled(text).replace("\\\n", " ").splitlines():
            if line.startswith("TOKEN="):
                env["TOKEN"] = line.removeprefix("TOKEN=")
                continue
            command = line.replace("curl ", f"curl --fail-with-body -sS{header} ").replace("video_01…", self.words.get("video_01…", ""))
            said = subprocess.run(["bash", "-c", command], cwd=self.folder, env=env, capture_output=True, text=True)
            assert said.returncode == 0, (line, said.stdout, said.stderr)
            made = json.loads(said.stdout) if said.stdout.startswith("{") else {}
            if clip := made.get("id") or made.get("data", {}).get("task_id"):
                self.words["video_01…"] = clip
                self.finished(clip)

    def python(self, text):
        values = {}
        if "standardwebhooks" in text:
            values["body"] = '{"type": "video.completed"}'
            now = datetime.now(timezone.utc)
            signature = Webhook(self.hook).sign("evt_1", now, values["body"])
            values["headers"] = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        os.chdir(self.folder)
        exec(compile(self.filled(text), str(DOCUMENT), "exec"), values)

    def request(self, text):
        """A request of the server's own interface: it is planned, or it is one for another model."""
        if "file_01…" in text:
            with open(DOCUMENT.parent / "gallery" / "start.png", "rb") as picture:
                self.words["file_01…"] = self.ask("POST", "/api/files", files={"file": picture})["id"]
        body = json.loads(self.filled(text))
        answer = requests.post(f"{self.url}/api/plan", json=body, headers={"Authorization": f"Bearer {self.key}"}, timeout=60)
        # The model that ships with Kinora has no camera.
        is_understood = answer.status_code == 400 and "camera_path" in body and "has no camera control" in answer.text
        assert answer.ok or is_understood, (body, answer.text)


def main():
    run = {"sh": 0, "python": 0, "json": 0}
    with tempfile.TemporaryDirectory() as folder:
        examples = Examples(str(Path(sys.argv[1]).resolve()), Path(folder))
        try:
            for language, text in blocks(DOCUMENT.read_text()):
                if language == "sh" and "curl " in text:
                    examples.shell(text)
                elif language == "python":
                    examples.python(text)
                elif language == "json" and ('"prompt"' in text or '"shots"' in text):
                    examples.request(text)
                else:
                    continue
                run[language] += 1
            clip = (Path(folder) / "ball.mp4").read_bytes()
            assert clip[4:8] == b"ftyp", clip[:8]
        finally:
            os.chdir("/")
            examples.server.terminate()
            examples.server.wait()
    assert run == {"sh": 2, "python": 3, "json": 3}, run
    print(f"examples of the document: {run}")


main()
