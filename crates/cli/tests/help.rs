//! The help of the command and of every subcommand, as a terminal of any width below the limit gets it.

use std::process::Command;

const SUBCOMMANDS: &[&str] = &[
    "generate",
    "plan",
    "extend",
    "story",
    "suite",
    "decode",
    "encode",
    "bench",
    "inspect",
    "models",
    "pull",
    "show",
    "rerun",
    "serve",
    "keys",
    "hooks",
    "config",
    "completions",
    "man",
];

#[test]
fn help_texts() {
    let mut texts = help(&[]);
    for name in SUBCOMMANDS {
        texts.push_str(&help(&[name]));
    }
    insta::assert_snapshot!(texts);
}

#[test]
fn every_subcommand_is_in_the_list() {
    let text = help(&[]);
    let listed = text.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list of commands");
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.split_last(), Some((&"help", SUBCOMMANDS)));
}

fn help(subcommand: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kinora"))
        .args(subcommand)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .expect("the command starts");
    assert!(output.status.success() && output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains('\u{1b}'), "no colours without a terminal");
    format!("$ kinora {}\n{text}\n", [subcommand, &["--help"]].concat().join(" "))
}
