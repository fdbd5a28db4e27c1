//! The examples of the documents, run.

#[path = "../../examples/frames.rs"]
mod frames;
#[path = "../../examples/parts.rs"]
#[expect(dead_code, reason = "it takes words of a command line")]
mod parts;
#[path = "../../examples/progress.rs"]
mod progress;
#[path = "../../examples/server.rs"]
#[expect(dead_code, reason = "it serves for ever")]
mod server;
#[path = "../../examples/warm.rs"]
mod warm;

use candle_core::DType;
use kinora::{Event, Frames, LoadOptions, Picture, Pipeline, Request, Sampling};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow::Continue;
use std::path::Path;

#[test]
fn clips_are_made() {
    frames::main().expect("frames");
    progress::main().expect("a clip in two parts");
    warm::main().expect("clips");
    for number in 0..2 {
        let clip = std::env::temp_dir().join(format!("kinora-example-{number}.mp4"));
        let _ = std::fs::remove_file(clip); // another run of the tests may have
    }
}

/// A loop over the parts makes what the pipeline makes.
#[test]
fn a_loop_over_the_parts_is_that_of_the_pipeline() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/embedded");
    let prompt = "a red ball moves right on a blue background";
    let latents = parts::denoise(&model, prompt, prompt, 7).expect("latents");
    let pipeline = Pipeline::load(&LoadOptions::default().device("cpu").dtype(DType::F32)).expect("the model");
    let request = Request::new(prompt).seed(7).sampling(Sampling::default().steps(16));
    let (mut frames, mut last) = (Frames::default(), None);
    let on_event = |event: Event<'_>| {
        if let Event::Step { latents, .. } = event {
            last = Some(latents.clone());
        }
        Continue(())
    };
    pipeline.generate_into(&request, &mut frames, on_event).expect("a clip");
    let difference = (latents.clone() - last.expect("a step")).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>());
    let difference = difference.expect("a number");
    assert!(difference < 1e-4, "{difference}");
    let own = parts::decode(&model, &latents).expect("frames");
    let theirs: Vec<Picture> = frames.frames.iter().map(Picture::from_frame).collect();
    assert_eq!(own.len(), theirs.len());
    for (own, theirs) in own.iter().zip(&theirs) {
        let largest = own.rgb.iter().zip(&theirs.rgb).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(largest <= Some(1), "{largest:?}");
    }
}

/// The status and the body that the server answers.
fn ask(address: SocketAddr, body: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "POST /clip HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("it listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let status = String::from_utf8_lossy(&answer).lines().next().expect("a status").to_string();
    (status, answer.split_off(end))
}

#[test]
fn a_server_answers() {
    let pipeline = Pipeline::load(&LoadOptions::default()).expect("the model");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = server::app(pipeline);
    runtime.spawn(async move { axum::serve(listener, app).await });
    let (status, clip) = ask(address, r#"{"prompt": "a red ball", "seed": 7}"#);
    assert!(status.contains("200") && clip.get(4..8) == Some(b"ftyp"), "{status}");
    let (status, body) = ask(address, r#"{"prompt": ""}"#);
    let body = String::from_utf8_lossy(&body);
    assert!(status.contains("422") && body.contains("the prompt is empty"), "{status}: {body}");
    assert!(ask(address, "{}").0.contains("422"), "a prompt is missing");
    runtime.shutdown_background();
}
