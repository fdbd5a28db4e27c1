"""litellm, a gateway's library, against a running `kinora serve` with the model that ships with Kinora.

    pip install litellm==1.110.2
    python scripts/serve/litellm_client.py http://127.0.0.1:7788 [KEY]
"""

import os
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it asks nobody for prices
import litellm


def main(base, key="none"):
    to = {"api_base": f"{base}/v1", "api_key": key, "custom_llm_provider": "openai"}
    small = {"num_frames": 5, "num_inference_steps": 3, "seed": 5}
    video = litellm.video_generation("a red ball rolls", model="openai/embedded", size="32x48", extra_body=small, **to)
    assert video.status in ("queued", "in_progress"), video
    while video.status not in ("completed", "failed"):
        time.sleep(0.05)
        video = litellm.video_status(video.id, **to)
    assert (video.status, video.size) == ("completed", "32x48"), video
    content = litellm.video_content(video.id, **to)
    assert content[4:8] == b"ftyp", content[:16]
    try:
        litellm.video_status("video_01aryz6s4100000000000000zz", **to)
    except Exception as error:
        assert "video_not_found" in str(error) or getattr(error, "status_code", 0) == 404, error
    else:
        raise AssertionError("a clip that is not there was found")
    print("litellm makes, asks for and downloads a clip")


if __name__ == "__main__":
    main(*sys.argv[1:])
