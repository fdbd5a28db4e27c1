"""PyJWT, requests and standardwebhooks against a `kinora serve` that this script starts, with the model that ships with Kinora.

    pip install PyJWT==2.15.1 requests==2.34.2 standardwebhooks==1.1.0
    python scripts/serve/kling_client.py target/debug/kinora
"""

import base64
import http.server
import json
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

import jwt
import requests
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

CLIP = {"prompt": "a red ball rolls", "duration": "0.3", "mode": "std"}


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what comes; the first of each task is refused, to be sent again."""

    events, seen = queue.Queue(), set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        again = self.headers["webhook-id"] in self.seen
        self.seen.add(self.headers["webhook-id"])
        first = len(self.seen) == 1 and not again
        self.events.put((dict(self.headers.items()), body, first))
        self.send_response(500 if first else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Kling:
    """A client as Kling's own documents have it."""

    def __init__(self, url, access, secret):
        self.url, self.access, self.secret = url, access, secret

    def token(self, **claims):
        now = int(time.time())
        claims = {"iss": self.access, "exp": now + 1800, "nbf": now - 5, **claims}
        return jwt.encode(claims, self.secret, algorithm="HS256", headers={"alg": "HS256", "typ": "JWT"})

    def ask(self, method, path, token=None, **more):
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        answer = requests.request(method, self.url + path, headers=headers, timeout=60, **more)
        body = answer.json()
        assert body["request_id"] and answer.ok == (body["code"] == 0), body
        return answer.status_code, body

    def data(self, method, path, **more):
        status, body = self.ask(method, path, **more)
        assert (status, body["code"], body["message"]) == (200, 0, "SUCCEED"), body
        return body["data"]

    def refused(self, expected, method, path, **more):
        status, body = self.ask(method, path, **more)
        assert (status, body["code"]) == expected, (expected, body)
        return body["message"]

    def made(self, kind, **body):
        task = self.data("POST", f"/v1/videos/{kind}", json=body)
        assert task["task_status"] == "submitted", task
        while task["task_status"] not in ("succeed", "failed"):
            time.sleep(0.05)
            task = self.data("GET", f"/v1/videos/{kind}/{task['task_id']}")
        assert task["task_status"] == "succeed", task
        return task


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config = folder / "kinora.toml"
        config.write_text('[outgoing]\nallowed_networks = ["127.0.0.1"]\n')
        store = ["--data", str(folder / "data"), "--config", str(config)]

        def command(*words):
            return subprocess.run([program, *words, *store], check=True, capture_output=True, text=True)

        added = command("keys", "add", "anna")
        words = dict(line.split("  ", 1) for line in added.stdout.splitlines()[1:])
        key = added.stderr.split(",")[0].strip()
        server = subprocess.Popen([program, "serve", "--port", "0", *store], stderr=subprocess.PIPE, text=True)
        try:
            url = next(line for line in server.stderr if "Kinora is at" in line).split()[-1]
            threading.Thread(target=server.stderr.read, daemon=True).start()
            client = Kling(url, words["access key"], words["secret key"])
            tokens(client)
            first = tasks(client)
            pictures_and_extensions(client, first)
            callbacks(client, lambda *more: command("hooks", *more, "--owner", "anna").stdout.split())
            renewed = command("keys", "rotate", key).stdout
            client.refused((401, 1000), "GET", "/account/costs")
            client.secret = renewed.split()[-1]
            client.data("GET", "/account/costs")
            command("keys", "revoke", key)
            client.refused((401, 1000), "GET", "/account/costs")
        finally:
            server.terminate()
            server.wait()
    print("PyJWT, requests and standardwebhooks: tokens, tasks, extensions and callbacks are as they should be")


def tokens(client):
    """Every way in which a token can be wrong has its number."""
    now = int(time.time())
    claims = {"iss": client.access, "exp": now + 1800, "nbf": now - 5}
    answer = requests.get(client.url + "/account/costs", timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (401, 1001), answer.text
    for expected, token in [
        (1002, "no.to.ken"),
        (1000, "kin_unknown"),
        (1002, jwt.encode(claims, None, algorithm="none")),
        (1002, client.token(exp=now + 7200)),
        (1002, jwt.encode(claims, client.secret * 2, algorithm="HS512")),
        (1003, client.token(nbf=now + 300)),
        (1004, client.token(exp=now - 300)),
        (1000, jwt.encode(claims, "another secret of some length, 32 bytes", algorithm="HS256")),
        (1000, client.token(iss="ak_unknown")),
    ]:
        client.refused((401, expected), "GET", "/account/costs", token=token)


def unsigned(task):
    """A task whose links have no signature: each answer signs them anew."""
    result = task.get("task_result", {})
    videos = [video | {"url": video["url"].split("?")[0]} for video in result.get("videos", [])]
    return task | {"task_result": result | {"videos": videos}}


def tasks(client):
    camera = {"type": "simple", "config": {"horizontal": 0, "vertical": 0, "pan": 0, "tilt": 0, "roll": 0, "zoom": 4}}
    task = client.made("text2video", model_name="kling-v1-6", cfg_scale=0.8, camera_control=camera, aspect_ratio="9:16",
                       external_task_id="a-1", **CLIP)
    assert task["task_info"]["external_task_id"] == "a-1" and task["final_unit_deduction"] == "1", task
    video = task["task_result"]["videos"][0]
    content = requests.get(video["url"], timeout=60).content
    assert content[4:8] == b"ftyp", content[:16]
    assert unsigned(client.data("GET", "/v1/videos/text2video/a-1")) == unsigned(task)
    assert [unsigned(task) for task in client.data("GET", "/v1/videos/text2video", params={"pageNum": 1, "pageSize": 10})] == [unsigned(task)]
    assert task["task_id"] in client.refused((400, 1201), "POST", "/v1/videos/text2video", json={"external_task_id": "a-1", **CLIP})
    assert "sound" in client.refused((400, 1201), "POST", "/v1/videos/text2video", json={"sound": "on", **CLIP})
    client.refused((404, 1203), "POST", "/v1/videos/text2video", json={"model_name": "sora-2", **CLIP})
    client.refused((404, 1203), "GET", f"/v1/videos/image2video/{task['task_id']}")
    packs = client.data("GET", "/account/costs", params={"start_time": 0, "end_time": 4102444800000})["resource_pack_subscribe_infos"]
    assert [(pack["total_quantity"], pack["remaining_quantity"], pack["status"]) for pack in packs] == [(66, 65, "online")], packs
    return video


def pictures_and_extensions(client, first):
    picture = requests.get(client.url + f"/api/clips/{first['id']}/last", headers={"Authorization": f"Bearer {client.token()}"}, timeout=60)
    assert picture.content[1:4] == b"PNG", picture.content[:8]
    task = client.made("image2video", image=base64.b64encode(picture.content).decode(), image_tail="", **CLIP)
    video = task["task_result"]["videos"][0]
    longer = client.made("video-extend", video_id=video["id"], prompt="it rolls on", duration="0.5")
    assert longer["task_info"]["parent_video"]["id"] == video["id"], longer
    assert float(longer["task_result"]["videos"][0]["duration"]) > float(video["duration"]), longer
    # Longer than the tier's ten seconds.
    client.refused((400, 1201), "POST", "/v1/videos/video-extend", json={"video_id": video["id"], "duration": "60"})


def callbacks(client, hooks):
    """The outside verifier takes every delivery, also during a rotation; the first one is sent again after an error."""
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    secret = hooks("secret")[0]

    def delivered(*secrets):
        """What is delivered until the clip is done: a change that comes late is not told after a newer one."""
        got = []
        while not got or got[-1][0]["task_status"] != "succeed" or got[-1][2]:
            headers, body, refused = Receiver.events.get(timeout=60)
            for secret in secrets:
                Webhook(secret).verify(body, headers)
            got.append((json.loads(body), headers["webhook-id"], refused))
        return got

    task = client.made("text2video", callback_url=url, **CLIP)
    got = delivered(secret)
    assert got[0][2], "the first one was refused"
    assert unsigned(got[-1][0]) == unsigned(task), (task, got)
    assert [data["task_status"] for data, _, refused in got if not refused] in (["processing", "succeed"], ["succeed"]), got
    newer = hooks("rotate")[0]
    client.made("text2video", callback_url=url, **CLIP)
    delivered(secret, newer)
    newest = hooks("rotate", "--hours", "0")[0]
    client.made("text2video", callback_url=url, **CLIP)
    headers, body, _ = Receiver.events.get(timeout=60)
    Webhook(newest).verify(body, headers)
    for wrong in (secret, newer):
        try:
            Webhook(wrong).verify(body, headers)
        except WebhookVerificationError:
            continue
        raise AssertionError("a secret that was replaced still signs")
    json.loads(body)
    receiver.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
