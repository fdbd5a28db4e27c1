//! The documents' commands: every line of every `sh` block that calls `kinora` is run, in order and from a clean directory. Those
//! that need a download, a server or minutes are parsed instead, by the program itself.

use kinora_tests::{CACHE, CUDA_BINARY, Run, SETTINGS, binary};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Words of lines that cannot be run here.
const NOT_HERE: [&str; 8] = [
    "kinora pull",
    "kinora models rm",
    "kinora serve",
    "kinora bench",
    "--lora ",
    "--preset ",
    "generate \"…\"",
    " key_01…",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// The documents for users.
fn documents() -> Vec<PathBuf> {
    let mut documents: Vec<PathBuf> = fs::read_dir(root().join("docs"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    documents.push(root().join("README.md"));
    documents.sort();
    documents
}

/// The lines of the `sh` blocks.
fn lines(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).expect("a document");
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        match (inside, line) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, line) if line.contains("kinora ") && !line.contains("cargo ") => lines.push(line.to_string()),
            _ => {}
        }
    }
    lines
}

/// A directory with what the documents name.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a folder");
    kinora_tests::sandbox::copy_folder(&root().join("examples"), &directory.path().join("examples"));
    let picture = directory.path().join("docs/gallery/start.png");
    fs::create_dir_all(picture.parent().expect("a folder")).expect("a folder");
    fs::copy(root().join("docs/gallery/start.png"), picture).expect("a picture");
    directory
}

fn run(line: &str, directory: &Path) -> Run {
    let folder = binary().parent().expect("a folder").to_path_buf();
    let path = std::env::join_paths(
        std::iter::once(folder).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(directory).stdin(Stdio::null());
    command.env("PATH", path.expect("a path")).env(CUDA_BINARY, "").env(CACHE, "").env(SETTINGS, "");
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", directory.join("hub"));
    Run::of(&command.output().expect("a shell"))
}

#[test]
fn commands_work_as_they_are_shown() {
    let (mut ran, mut parsed) = (0, 0);
    for document in documents() {
        let directory = directory();
        for line in lines(&document) {
            let command = line.split(" #").next().unwrap_or_default().trim_end();
            let needs_model = command.contains("--model ") && !command.contains("kinora plan");
            let is_here = !needs_model && !NOT_HERE.iter().any(|words| command.contains(words));
            let shown = if is_here { command.to_string() } else { format!("{command} --help") };
            let run = run(&shown, directory.path());
            assert_eq!(run.status, Some(0), "{}: {shown}\n{}", document.display(), run.stderr);
            *(if is_here { &mut ran } else { &mut parsed }) += 1;
        }
    }
    assert!(ran >= 30 && parsed >= 5, "{ran} run, {parsed} parsed");
}

/// The book has every document, and leads to no other.
#[test]
fn the_book_has_every_document() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("a summary");
    let linked = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_string);
    let own = documents().into_iter().filter(|path| path.parent().is_some_and(|folder| folder.ends_with("docs")));
    let names = own.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned());
    let names: BTreeSet<String> = names.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(linked.collect::<BTreeSet<_>>(), names);
}

/// The story that the document shows is the one that it names.
#[test]
fn examples_are_those_of_the_documents() {
    let story = fs::read_to_string(root().join("examples/story.toml")).expect("an example");
    let shown = story.split_once("\n\n").expect("a comment first").1;
    let document = fs::read_to_string(root().join("docs/story.md")).expect("a document");
    assert!(document.contains(&format!("```toml\n{shown}```")), "{shown}");
    let directory = directory();
    let made =
        run("kinora generate 'a red ball moves right on a striped blue background' -o ball.mp4", directory.path());
    assert_eq!(made.status, Some(0), "{made:#?}");
    let continued = run("kinora story examples/continued.toml -o continued.mp4", directory.path());
    assert_eq!(continued.status, Some(0), "{continued:#?}");
}
