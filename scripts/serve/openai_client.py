"""OpenAI's own client against a running `kinora serve` with the model that ships with Kinora.

    pip install openai==3.57.0
    python scripts/serve/openai_client.py http://127.0.0.1:7788 [KEY]
"""

import sys
import warnings

import openai
from openai import OpenAI

warnings.simplefilter("ignore", DeprecationWarning)  # the client says that OpenAI ends the service
SMALL = {"size": "32x48", "extra_body": {"num_frames": 5, "num_inference_steps": 3, "seed": 5}}


def main(base, key="none"):
    client = OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0)
    video = client.videos.create_and_poll(prompt="a red ball rolls", **SMALL)
    assert (video.status, video.progress, video.size) == ("completed", 100, "32x48"), video
    assert video.prompt == "a red ball rolls" and video.error is None, video
    content = client.videos.download_content(video.id).read()
    assert content[4:8] == b"ftyp", content[:16]
    picture = client.videos.download_content(video.id, variant="thumbnail").read()
    assert picture[1:4] == b"PNG", picture[:8]
    part = client.videos.with_raw_response.download_content(video.id, extra_headers={"Range": "bytes=0-3"})
    assert part.http_response.status_code == 206 and part.http_response.read() == content[:4]

    with_picture = client.videos.create_and_poll(prompt="on", input_reference=("a.png", picture), **SMALL)
    assert with_picture.status in ("completed", "failed"), with_picture
    remix = client.videos.remix(video.id, prompt="a blue ball")
    assert remix.remixed_from_video_id == video.id, remix
    remix = client.videos.poll(remix.id)
    assert remix.status == "completed", remix
    longer = {**SMALL, "extra_body": {**SMALL["extra_body"], "num_frames": 13}}
    longer = client.videos.create_and_poll(prompt="a red ball rolls far", **longer)
    clip = client.videos.download_content(longer.id).read()
    extended = client.videos.extend(prompt="it rolls on", seconds="0.25", video=("clip.mp4", clip))
    assert client.videos.poll(extended.id).status == "completed", extended
    again = client.post("/videos/extensions", body={"prompt": "on", "seconds": "0.25", "video": {"id": video.id}}, cast_to=dict)
    assert client.videos.poll(again["id"]).status == "completed", again

    listed = [entry.id for entry in client.videos.list(limit=2)]
    assert len(listed) == len(set(listed)) >= 5 and video.id in listed, listed
    oldest = next(iter(client.videos.list(limit=1, order="asc")))
    assert oldest.created_at <= video.created_at
    body = {"prompt": "once", **SMALL}
    twice = [client.videos.create(**body, extra_headers={"Idempotency-Key": "k-1"}).id for _ in range(2)]
    assert twice[0] == twice[1], twice
    assert client.videos.delete(video.id).deleted
    refused(openai.NotFoundError, "video_not_found", lambda: client.videos.retrieve(video.id))
    refused(openai.BadRequestError, "invalid_value", lambda: client.videos.create(prompt="x", seconds="0"))
    refused(openai.BadRequestError, "unknown_parameter", lambda: client.videos.create(prompt="x", extra_body={"lora": "y"}))
    refused(openai.NotFoundError, "model_not_found", lambda: client.videos.create(prompt="x", model="sora-2"))
    for entry in client.videos.list():
        client.videos.poll(entry.id)
        client.videos.delete(entry.id)
    assert not list(client.videos.list())
    print("OpenAI's client makes, lists, changes and deletes clips")


def refused(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, (error.code, error)
        return
    raise AssertionError(f"{kind.__name__} was expected")


if __name__ == "__main__":
    main(*sys.argv[1:])
