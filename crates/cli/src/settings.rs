//! Settings: options that stand in a file or in the environment, so that they need not be written in every command.

mod apply;

use crate::report;
use clap::ArgMatches;
use kinora::{Error, Result};
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Names the file of settings; empty: there is none.
const FILE: &str = "KINORA_CONFIG";
/// The options that variables may give.
const VARIABLES: [(&str, &str); 6] = [
    ("KINORA_MODEL", "model"),
    ("KINORA_DEVICE", "device"),
    ("KINORA_THREADS", "threads"),
    ("KINORA_DTYPE", "dtype"),
    ("KINORA_QUANT", "quant"),
    ("KINORA_GPU_MEMORY", "gpu-memory"),
];

/// The place of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This variable.
    Variable(&'static str),
    /// The table of this command in the file, or its top for all commands.
    File(Option<String>),
}

/// An option that is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The name of the option, without dashes.
    pub option: String,
    /// Its values, in the words of a command line.
    pub values: Values,
    /// Where it stands.
    pub origin: Origin,
}

/// The values of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Of a flag.
    Flag(bool),
    /// One value, or one for each time that the option is given.
    Words(Vec<String>),
}

impl fmt::Display for Values {
    /// Writes them as TOML.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Flag(on) => write!(f, "{on}"),
            Self::Words(words) if words.len() == 1 => write!(f, "{:?}", words[0]),
            Self::Words(words) => write!(f, "{words:?}"),
        }
    }
}

/// All settings: those of variables go before those of the file, and there a command's own before those of all commands.
#[derive(Debug, Default)]
pub struct Settings {
    /// The file, where it is known; it may not be there.
    pub file: Option<PathBuf>,
    /// In the order in which they count.
    pub all: Vec<Setting>,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// A file that cannot be read, or has something else in it than options.
    pub fn read() -> Result<Self> {
        let file = Self::place();
        let mut all: Vec<Setting> = VARIABLES.iter().filter_map(|(name, option)| variable(name, option)).collect();
        if let Some(path) = file.as_ref().filter(|path| path.is_file()) {
            all.extend(read(path)?);
        }
        Ok(Self { file, all })
    }

    /// Returns the command `line`, which was `parsed`, with the settings in it.
    pub fn over(&self, line: &[OsString], parsed: &ArgMatches) -> Vec<OsString> {
        apply::with_settings(line, parsed, self)
    }

    /// The error of a command line that is right but for the settings.
    pub fn refused(&self, error: &clap::Error) -> Error {
        let words = report::words(error);
        let what = words.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&words);
        let file = self.file.as_ref().map_or_else(String::new, |path| format!(" in `{}`", path.display()));
        Error::request(
            format!("a setting{file} or of a variable is refused: {}", what.trim_end()),
            "`kinora config` prints all settings, and where they stand",
        )
    }

    /// The path of the file of settings; it may not be there.
    pub fn place() -> Option<PathBuf> {
        if let Some(named) = env::var_os(FILE) {
            return Some(PathBuf::from(named)).filter(|path| !path.as_os_str().is_empty());
        }
        let path = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = if cfg!(windows) { path("APPDATA") } else { path("XDG_CONFIG_HOME") };
        Some(folder.or_else(|| Some(path("HOME")?.join(".config")))?.join("kinora").join("config.toml"))
    }

    /// Prints what is set, and where.
    pub fn print(&self) {
        match &self.file {
            Some(path) if path.is_file() => report::line(&format!("# {}", path.display())),
            Some(path) => report::line(&format!("# there is no {}", path.display())),
            None => report::line("# no file of settings"),
        }
        for Setting { option, values, origin } in &self.all {
            let origin = match origin {
                Origin::Variable(name) => format!("from {name}"),
                Origin::File(None) => "for all commands".into(),
                Origin::File(Some(command)) => format!("for `kinora {command}`"),
            };
            report::line(&format!("{option} = {values}  # {origin}"));
        }
    }
}

fn variable(name: &'static str, option: &str) -> Option<Setting> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?.to_string_lossy().into_owned();
    Some(Setting { option: option.into(), values: Values::Words(vec![value]), origin: Origin::Variable(name) })
}

fn read(path: &Path) -> Result<Vec<Setting>> {
    let io = |source| Error::Io { path: path.into(), source };
    let text = kinora_files::read_text(path).map_err(io)?;
    let bad = |what: &str| {
        Error::request(
            format!("`{}`: {}", path.display(), what.trim_end()),
            "every key is the name of an option, such as `model = \"embedded\"`; tables such as [generate] are for one command",
        )
    };
    let table: Table = text.parse().map_err(|error: toml::de::Error| bad(&error.to_string()))?;
    let (own, common): (Vec<_>, Vec<_>) = table.into_iter().partition(|(_, value)| value.is_table());
    let mut all = Vec::new();
    let commands = own.into_iter().map(|(name, value)| (Some(name), value.try_into().unwrap_or_default()));
    for (command, table) in commands.chain([(None, common.into_iter().collect::<Table>())]) {
        for (option, value) in table {
            apply::check(&option, command.as_deref()).map_err(|what| bad(&what))?;
            let values =
                values(&value).ok_or_else(|| bad(&format!("`{option}` is neither a value nor a list of them")))?;
            all.push(Setting { option, values, origin: Origin::File(command.clone()) });
        }
    }
    Ok(all)
}

fn values(value: &Value) -> Option<Values> {
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    };
    match value {
        Value::Boolean(on) => Some(Values::Flag(*on)),
        Value::Array(list) => Some(Values::Words(list.iter().map(word).collect::<Option<_>>()?)),
        one => Some(Values::Words(vec![word(one)?])),
    }
}
