//! More than the server takes: an upload without an end, and a signal to end amid requests.

use super::served::{Answer, Served, small};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

/// What the server may need for an upload, however long it is.
const MEMORY: u64 = 16 << 20;

#[test]
fn ten_gigabytes_are_refused_at_the_limit() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let head = "POST /api/files HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=edge\r\n";
    let form = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let announced =
        Answer::read(server.socket(&format!("{head}Content-Length: 10737418240\r\n\r\n"))).expect("an answer");
    assert_eq!((announced.status, announced.code().as_str()), (413, "too_large"), "one that says so is not read");
    server.forget();
    let [before, _] = server.memory();
    let mut stream = server.socket(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{form}\r\n", form.len()));
    let piece = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    let sent = (0..10 << 10).take_while(|_| stream.write_all(&piece).is_ok()).count();
    let answer = Answer::read(stream).expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    assert!((255..400).contains(&sent), "{sent} MiB were taken");
    let [_, most] = server.memory();
    assert!(most - before <= MEMORY, "{:.1} MiB more than before", (most - before) as f64 / f64::from(1 << 20));
    println!("{:.1} MiB more than before", (most - before) as f64 / f64::from(1 << 20));
    let left = || std::fs::read_dir(data.path().join("uploads")).expect("a folder").count();
    Served::wait("nothing is left on the disk", || left() == 0);
}

#[test]
fn a_server_that_ends_amid_requests_loses_none_that_it_accepted() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let accepted = Mutex::new(BTreeSet::new());
    let port = server.port;
    std::thread::scope(|scope| {
        for client in 0..6 {
            let accepted = &accepted;
            scope.spawn(move || {
                for number in 0.. {
                    let host = format!("127.0.0.1:{port}");
                    let body = small(1000 * client + number).to_string();
                    let head = format!(
                        "POST /api/clips HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let Ok(mut stream) = std::net::TcpStream::connect(&host) else { return };
                    let Ok(answer) = stream.write_all(head.as_bytes()).and_then(|()| Answer::read(stream)) else { continue };
                    if answer.status == 201 {
                        let id = answer.json()["clips"][0]["id"].as_str().expect("an id").to_string();
                        accepted.lock().expect("no panic").insert(id);
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(1500));
        assert!(server.end(), "it ends well");
    });
    let accepted = accepted.into_inner().expect("no panic");
    assert!(accepted.len() > 10, "{} clips", accepted.len());
    let server = Served::start(data.path(), &[]);
    let mut found = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("/api/clips?limit=200{after}")).json();
        let ids: Vec<&str> =
            page["clips"].as_array().into_iter().flatten().filter_map(|clip| clip["id"].as_str()).collect();
        found.extend(ids.iter().map(|id| (*id).to_string()));
        if page["has_more"] != true {
            break;
        }
        after = format!("&after={}", ids.last().expect("a clip"));
    }
    assert!(accepted.is_subset(&found), "{} of {} are lost", accepted.difference(&found).count(), accepted.len());
    let first = accepted.first().expect("a clip");
    assert_eq!(server.finished(first)["status"], "succeeded");
}
