//! `kinora serve` and `kinora worker`.

use crate::args::{ComputeArgs, ServeArgs, WorkerArgs};
use crate::{report, signals};
use kinora::{Error, Result};
use kinora_serve::{Config, Program, Server};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the server looks whether a signal has come.
const LOOK: Duration = Duration::from_millis(100);

/// Answers until a signal ends it.
pub fn run(args: &ServeArgs) -> Result<()> {
    signals::listen();
    let config = config(args)?;
    let path = std::env::current_exe().map_err(|source| Error::Io { path: "kinora".into(), source })?;
    // With the rest of its data: a service has no directory of its own elsewhere.
    let cache = std::path::absolute(config.data.join("cache")).ok().and_then(crate::cache::variable);
    let program = Program { path, arguments: worker_arguments(&args.compute), cache };
    in_runtime(async {
        let server = Server::start(config, program, report::say).await.map_err(error)?;
        report::say(&format!("Kinora is at {}", server.url()));
        server.run(ended()).await.map_err(|source| Error::Io { path: "the server".into(), source })
    })
}

async fn ended() {
    while !signals::interrupted() {
        tokio::time::sleep(LOOK).await;
    }
    report::say("ending: clips that are being made go on with the next start");
}

/// Makes the clips that a server orders on standard input.
pub fn worker(args: &WorkerArgs) -> Result<()> {
    // Ctrl-C reaches every process of the terminal; the server says when its workers stop.
    signals::listen();
    let options = args.compute.load_options(Vec::new());
    let orders = std::io::BufReader::new(std::io::stdin());
    let done = kinora_serve::work(options, orders, report::pipe());
    done.map_err(|source| Error::Io { path: "the server".into(), source })
}

/// Reads the configuration.
pub fn read(path: Option<&Path>) -> Result<Config> {
    path.map_or_else(|| Ok(Config::default()), |path| Config::read(path).map_err(error))
}

/// The configuration file, with the options in place.
fn config(args: &ServeArgs) -> Result<Config> {
    let mut config = read(args.config.as_deref())?;
    config.host = args.host.unwrap_or(config.host);
    config.port = args.port.unwrap_or(config.port);
    config.data = args.data.clone().unwrap_or(config.data);
    if !args.model.is_empty() {
        let pairs: Vec<(String, String)> = args.model.iter().map(|text| named(text)).collect();
        config.default_model.clone_from(&pairs[0].0);
        config.models = pairs.into_iter().collect::<BTreeMap<_, _>>();
    }
    config.check().map_err(error)?;
    Ok(config)
}

/// `NAME=WORDS`, or words whose last part is the name.
fn named(text: &str) -> (String, String) {
    if let Some((name, words)) = text.split_once('=') {
        return (name.to_string(), words.to_string());
    }
    let name = PathBuf::from(text).file_name().map(|name| name.to_string_lossy().into_owned());
    (name.unwrap_or_else(|| text.to_string()), text.to_string())
}

/// The options of workers.
fn worker_arguments(compute: &ComputeArgs) -> Vec<String> {
    let mut arguments = vec!["worker".to_string()];
    arguments.extend(compute.words());
    arguments
}

/// Runs `work` to its end.
pub fn in_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.map_err(|source| Error::Io { path: "the server".into(), source })?.block_on(work)
}

/// The server's error as the command's.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
pub fn error(error: kinora_serve::Error) -> Error {
    Error::request(error.to_string(), error.hint().unwrap_or("see docs/serve.md").to_string())
}
