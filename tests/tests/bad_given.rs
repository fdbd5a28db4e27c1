//! Pictures, clips, cameras, stories and suites that cannot be used: the command says what is wrong and what to do, and
//! leaves nothing behind. The texts are snapshots.

use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;

#[test]
fn pictures_and_clips_that_cannot_be_given() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("notes.txt", "no picture");
    sandbox.write("picture.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    sandbox.write_tensor("clip.safetensors", "video", &[5, 3, 32, 32], 0.5);
    for more in [
        &["--image", "none.png"][..],
        &["--last-image", "none.png"],
        &["--fit", "squeeze"],
        &["--video", "none.mp4"],
        &["--strength", "0.5"],
        &["--video", "clip.safetensors", "--strength", "0"],
        &["--video", "clip.safetensors", "--strength", "1.5"],
        &["--video", "clip.safetensors", "--strength", "0.1"],
        &["--video", "clip.safetensors", "--image", "notes.txt"],
        &["--control", "clip.safetensors"],
        &["--mask", "clip.safetensors"],
        &["--reference", "notes.txt"],
        &["--expand", "0.5"],
        &["--expand", "up=1"],
        &["--control-scale", "2"],
        &["--camera", "dolly=1"],
        &["--camera", "pan=11"],
        &["--camera", "pan=1", "--camera-preset", "forward-up"],
        &["--camera-preset", "sideways"],
        &["--camera-path", "notes.txt"],
        &["--camera", "pan=1", "--no-camera-in-prompt"],
        &["--mode", "best"],
        &["--upscale", "3x"],
        &["--upscale", "2x", "--upscaler", "spam"],
        &["--upscaler", "span"],
    ] {
        t.generate(&sandbox, more);
    }
    insta::assert_snapshot!(t.0);
}

#[test]
fn pictures_that_are_none() {
    let mut t = Transcript::default();
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let picture = std::fs::read(sandbox.path("given/image.png")).expect("a picture");
    sandbox.write("notes.png", "no picture");
    sandbox.write("cut.png", &picture[..picture.len() / 2]);
    sandbox.write("picture.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    for file in ["none.png", "notes.png", "cut.png", "picture.heic", "given"] {
        t.generate(&sandbox, &["--image", file]);
    }
    t.generate(&sandbox, &["--image", "given/image.png", "-o", "given/image.png"]);
    for (case, more) in [
        ("wan21_i2v", &[][..]),
        ("wan21_i2v", &["--last-image", "given/image.png"]),
        ("wan21_i2v", &["--image", "given/image.png", "--last-image", "given/image.png"]),
        ("wan21_i2v", &["--video", "given/image.png"]),
        ("wan21_flf2v", &["--image", "given/image.png"]),
        ("wan21_vace", &["--mask", "given/mask"]),
        ("wan21_vace", &["--expand", "0.5"]),
        ("wan21_vace", &["--control", "given/video", "--control-scale", "-1"]),
        ("wan21_vace", &["--control", "given/video", "--video", "given/video"]),
        ("wan21_vace", &["--control", "given/empty"]),
    ] {
        let sandbox = Sandbox::given(case);
        std::fs::create_dir(sandbox.path("given/empty")).expect("a folder");
        t.run(&sandbox, &format!("{case}: {}", more.join(" ")), &Sandbox::generate_arguments(more));
    }
    insta::assert_snapshot!(t.0);
}

#[test]
fn stories_that_cannot_be_told() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write_tensor("clip.safetensors", "video", &[5, 3, 32, 32], 0.5);
    sandbox.write("empty.toml", "");
    sandbox.write("typo.toml", "[[shot]]\nprompts = \"a ball\"\n");
    sandbox.write("fine.toml", "[[shot]]\nprompt = \"a ball\"\n");
    sandbox.write("image.toml", "[[shot]]\nprompt = \"a\"\n[[shot]]\nprompt = \"b\"\nimage = \"a.png\"\n");
    sandbox.write("long.toml", "[[shot]]\nprompt = \"a ball\"\nseconds = 1e9\n");
    sandbox.write("camera.toml", "[[shot]]\nprompt = \"a ball\"\ncamera = \"dolly=1\"\n");
    t.kinora(&sandbox, &["story", "none.toml"]);
    for story in ["empty.toml", "typo.toml", "image.toml", "long.toml", "camera.toml"] {
        t.kinora(&sandbox, &["story", story]);
    }
    t.kinora(&sandbox, &["story", "fine.toml", "--model", "model"]);
    t.kinora(&sandbox, &["extend", "none.mp4", "a ball"]);
    t.kinora(&sandbox, &["extend", "clip.safetensors"]);
    t.kinora(&sandbox, &["extend", "clip.safetensors", "a ball", "--model", "model"]);
    t.kinora(&sandbox, &["extend", "clip.safetensors", "a ball", "--seconds", "0"]);
    t.kinora(&sandbox, &["extend", "clip.safetensors", "a ball", "-o", "clip.safetensors"]);
    t.kinora(&sandbox, &["suite", "none.toml", "-o", "gallery"]);
    t.kinora(&sandbox, &["suite", "typo.toml", "-o", "gallery"]);
    sandbox.write("prompts.toml", "[[prompt]]\ntext = \"a ball\"\n");
    t.kinora(&sandbox, &["suite", "prompts.toml", "-o", "gallery", "--set", "step=4"]);
    t.kinora(&sandbox, &["suite", "prompts.toml", "-o", "gallery", "--category", "x"]);
    t.kinora(&sandbox, &["models", "--show", "nothing"]);
    insta::assert_snapshot!(t.0);
}
