//! Prompts, sizes, denoising settings and command lines.

use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;

#[test]
fn prompts_and_sizes() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    for prompt in ["", " \t\n "] {
        t.kinora(&sandbox, &["generate", prompt, "--model", "model", "--steps", "2"]);
    }
    for more in [
        ["--width", "0"],
        ["--width", "-64"],
        ["--width", "100000"],
        ["--width", "18446744073709551615"],
        ["--height", "18446744073709551616"],
        ["--height", "tall"],
        ["--frames", "0"],
        ["--frames", "-5"],
        ["--frames", "20000"],
        ["--frames", "14401"],
        ["--duration", "-1"],
        ["--duration", "nan"],
        ["--duration", "1e300"],
        ["--fps", "0"],
        ["--fps", "inf"],
        ["--fps", "1e9"],
    ] {
        t.generate(&sandbox, &more);
    }
    t.generate(&sandbox, &["--width", "4096", "--height", "4096", "--frames", "4093"]);
    t.generate(&sandbox, &["--frames", "5", "--duration", "1"]);
    t.kinora(&sandbox, &["generate", "a ball", "--model", "model", "--aspect", "16:0"]);
    t.kinora(&sandbox, &["generate", "a ball", "--model", "model", "--resolution", "9000p"]);
    insta::assert_snapshot!(t.0);
}

#[test]
fn denoising_settings() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    for more in [
        ["--steps", "0"],
        ["--steps", "1000000"],
        ["--guidance-scale", "nan"],
        ["--guidance-scale", "inf"],
        ["--guidance-scale", "-3"],
        ["--guidance-scale-2", "3"],
        ["--shift", "0"],
        ["--shift", "nan"],
        ["--sampler", "unipcc"],
        ["--sampler", "42"],
        ["--sigmas", ""],
        ["--sigmas", "0"],
        ["--sigmas", "0.5,0.9"],
        ["--sigmas", "1,nan,0.5"],
        ["--sigmas", "2,1"],
        ["--sigmas", "1,x"],
        ["--seed", "-2"],
        ["--count", "0"],
        ["--threads", "0"],
        ["--threads", "99999"],
        ["--device", "tpu"],
        ["--dtype", "int8"],
        ["--quant", "int4"],
    ] {
        t.generate(&sandbox, &more);
    }
    t.generate(&sandbox, &["--quality", "99", "--encoder", "openh264", "-o", "clip.mp4"]);
    t.generate(&sandbox, &["--sigmas", "1,0.5", "--steps", "2"]);
    insta::assert_snapshot!(t.0);
}

#[test]
fn command_lines() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    t.kinora(&sandbox, &["generat", "a ball"]);
    t.kinora(&sandbox, &["generate"]);
    t.kinora(&sandbox, &["generate", "a ball", "--stepz", "4"]);
    t.kinora(&sandbox, &["decode"]);
    t.kinora(&sandbox, &["bench", "--what", "everything"]);
    insta::assert_snapshot!(t.0);
}
