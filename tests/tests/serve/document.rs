//! `/openapi.json`: what it names is there, and behind the guard.

use super::guarded::key;
use super::served::Served;
use serde_json::Value;

/// An address of a path's pattern.
fn address(pattern: &str) -> String {
    pattern.replace("{id}", "video_01ARZ3NDEKTSV4RRFFQ69G5FAV").replace("{file}", "video")
}

fn check_references(document: &Value) {
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not there");
    }
}

#[test]
fn every_route_of_the_document_is_there_and_guarded() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let document = server.get("/openapi.json");
    assert_eq!(document.headers["content-type"], "application/json");
    let document = document.json();
    check_references(&document);
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 20, "{} paths", paths.len());
    let operations = || {
        paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods");
            methods.iter().map(move |(method, operation)| (path.as_str(), method.to_uppercase(), operation))
        })
    };
    for (path, method, operation) in operations() {
        if path == "/api/events" {
            continue; // it does not end
        }
        let answer = server.ask(&method, &address(path), &[], b"");
        assert_ne!(answer.status, 405, "{method} {path}");
        assert!(answer.status != 404 || answer.code() != "not_found", "{method} {path}: {answer:?}");
        let is_known = !operation["responses"][answer.status.to_string()].is_null();
        assert!(is_known || answer.status >= 400, "{method} {path}: {}", answer.status);
        // Methods that are not there say so, and which are.
        for other in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if paths[path][other.to_lowercase()].is_null() {
                let refused = server.ask(other, &address(path), &[], b"");
                assert_eq!((refused.status, refused.code().as_str()), (405, "wrong_method"), "{other} {path}");
                assert!(refused.headers["allow"].contains(&method), "{other} {path}: {refused:?}");
            }
        }
    }
    drop(server);
    key(data.path(), "anna", &[]);
    let server = Served::start(data.path(), &[]);
    for (path, method, operation) in operations() {
        if operation["security"].is_null() {
            for method in [&method, "PUT"] {
                let answer = server.ask(method, &address(path), &[], b"");
                assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{method} {path}");
            }
        }
    }
}

#[test]
fn every_route_of_klings_document_is_there_and_guarded() {
    let data = tempfile::tempdir().expect("a directory");
    key(data.path(), "anna", &[]);
    let server = Served::start(data.path(), &[]);
    let document = server.get("/kling/openapi.json").json();
    check_references(&document);
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 7, "{:?}", paths.keys());
    for (path, methods) in paths {
        for method in ["GET", "POST", "DELETE"] {
            let answer = server.ask(method, &path.replace("{task}", "a-1"), &[], b"");
            assert_eq!((answer.status, &answer.json()["code"]), (401, &1001.into()), "{method} {path}");
        }
        for (method, operation) in methods.as_object().expect("methods") {
            let said = &operation["responses"];
            assert!(said["200"].is_object() && said["default"].is_object(), "{method} {path}");
        }
    }
}

/// A list is no object, even where every field may be left out.
#[test]
fn bodies_are_objects() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    for path in ["/api/clips/delete", "/api/clips", "/api/plan", "/v1/videos"] {
        for body in [&b"[]"[..], b"[[\"x\"]]", b"1", b"null"] {
            let answer = server.ask("POST", path, &[("content-type", "application/json")], body);
            assert_eq!(answer.status, 400, "{path}: {answer:?}");
        }
    }
    // What a small model does not know is said in letters of any size.
    let plan = server.post("/api/plan", &serde_json::json!({"prompt": "ã3`"}));
    assert_eq!(plan.status, 200, "{plan:?}");
    assert!(plan.json().to_string().contains("it does not know: ã"), "{plan:?}");
}

/// All routes come from the table that the document is made of.
#[test]
fn there_are_no_other_routes() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/serve/src/routes.rs");
    let text = std::fs::read_to_string(source).expect("a source");
    let beside: Vec<&str> = text.lines().filter(|line| line.contains(".route(")).map(str::trim).collect();
    let known = [
        r#".route("/openapi.json", own_document)"#,
        r#".route("/kling/openapi.json", kling_document)"#,
        r#".route("/api/{*rest}", any(nothing))"#,
        r#".route("/v1/{*rest}", any(nothing))"#,
    ];
    assert_eq!(beside, known, "a route that the document does not name");
}
