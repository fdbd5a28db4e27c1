//! Hints as the command gives them: the library's, which speak of requests, with the command's options and its other commands.

use kinora::Error;
use kinora_files::shell_word;

/// Returns what to do about `error`, where there is something.
pub fn hint(error: &Error) -> Option<String> {
    match error {
        // Other hints have a list, or name the command already.
        Error::UnknownModel { hint, .. } if hint.ends_with('?') => Some(format!("{hint} `kinora models` lists all")),
        Error::NotHere { name, lacking, .. } => {
            let lacking = lacking.as_ref().map(|file| format!(": its download lacks {file}")).unwrap_or_default();
            Some(format!("`kinora pull {name}` downloads it; or give the directory where it is{lacking}"))
        }
        Error::NotAModel { path, .. } => Some(format!("`kinora inspect {}` shows what is there", shell_word(path))),
        Error::Stopped { resumable: Some(dir) } => {
            Some(format!("the same command with --resume {} continues", shell_word(dir)))
        }
        Error::Stopped { resumable: None } => {
            Some("nothing was written; `kinora generate` with --resume DIR can be stopped and continued".into())
        }
        Error::StoryStopped { project } => {
            Some(format!("the same command continues; what is done is kept in `{}`", project.display()))
        }
        Error::ResumeMismatch { path, .. } => Some(format!(
            "repeat the first command, or delete `{}` or name another directory to start anew",
            path.display()
        )),
        Error::AfterLatents { source, latents, model, .. } => {
            let first = hint(source).filter(|_| !source.is_stop()).map(|hint| format!("{hint}; "));
            let words: Vec<String> = model.iter().map(shell_word).collect();
            Some(format!(
                "{}nothing is lost: `kinora decode {} --model {} -o clip.mp4` goes on from the denoised latents",
                first.unwrap_or_default(),
                shell_word(latents),
                words.join(" ")
            ))
        }
        error => error.hint().map(|hint| with_options(hint, error.settings())),
    }
}

/// `hint` with the options of the settings that it speaks of.
fn with_options(hint: String, settings: &[&str]) -> String {
    let options: Vec<String> = settings.iter().map(|setting| option(setting)).collect();
    if options.is_empty() { hint } else { format!("{hint} ({})", options.join(", ")) }
}

/// The option that sets a field of the library's requests.
fn option(setting: &str) -> String {
    match setting {
        "references" => "--reference".into(),
        "loras" => "--lora".into(),
        "camera_in_prompt" => "--no-camera-in-prompt".into(),
        setting => format!("--{}", setting.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::path::Path;

    /// The settings that the library's errors name, in its sources.
    fn named(folder: &Path) -> Vec<String> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                names.extend(named(&path));
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            for list in text.split(".about(&[").skip(1) {
                let list = list.split(']').next().unwrap_or_default();
                names.extend(list.split(',').map(|name| name.trim().trim_matches('"').to_string()));
            }
        }
        names
    }

    #[test]
    fn every_setting_has_an_option() {
        let command = crate::args::Cli::command();
        let all: Vec<_> = command.get_subcommands().flat_map(clap::Command::get_arguments).collect();
        let names = named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipeline/src"));
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            let option = option(&name);
            assert!(all.iter().any(|argument| argument.get_long() == option.strip_prefix("--")), "{name}: {option}");
        }
    }

    #[test]
    fn hints_name_options_and_commands() {
        let not_here = Error::NotHere { name: "a".into(), title: "A".into(), lacking: None };
        assert_eq!(hint(&not_here).as_deref(), Some("`kinora pull a` downloads it; or give the directory where it is"));
        assert_eq!(with_options("give both".into(), &["image", "last_image"]), "give both (--image, --last-image)");
        assert_eq!(with_options("check the path".into(), &[]), "check the path");
    }
}
