//! Requests to the hub, with the settings of this machine: certificates, proxy and token.

use crate::error::Trouble;
use crate::{Error, Hub, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// The waiting times before the next attempt, after attempts that brought nothing.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// The longest time that the hub may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A connection that is silent for this long is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// The largest answer about a repository that is read, in bytes.
const LONGEST_TEXT: u64 = 64 << 20;

/// Sends requests to the hub.
pub(super) struct Client<'a> {
    agent: Agent,
    hub: &'a Hub,
}

impl<'a> Client<'a> {
    /// # Errors
    /// The user wants no network, or a setting cannot be used.
    pub(super) fn new(hub: &'a Hub) -> Result<Self> {
        if let Some(variable) = hub.offline {
            return Err(Error::Offline { variable });
        }
        let wrong = |name: &str, problem: &str| Err(Error::Setting { name: name.into(), problem: problem.into() });
        if let Some(token) = hub.token.as_ref().filter(|token| !token.text.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return wrong(&token.from, "holds no access token: a token has neither spaces nor letters beyond ASCII");
        }
        let is_address = |uri: Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if !hub.endpoint.parse::<Uri>().is_ok_and(is_address) {
            return wrong("HF_ENDPOINT", &format!("is `{}`, not an address with https:// or http://", hub.endpoint));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Large files are on other hosts, which must not see the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .accept_encoding("identity")
            .user_agent(concat!("kinora/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        if !hub.authorities.is_empty() {
            let roots = RootCerts::new_with_certs(&certificates(&hub.authorities)?);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let agent = config.build().new_agent();
        if let (Some(variable), None) = (hub.proxy, agent.config().proxy()) {
            return wrong(variable, "is not the address of a proxy");
        }
        Ok(Self { agent, hub })
    }

    /// Returns the text of a short answer; what may pass is tried again. `tick` is called while it waits, and may stop it.
    pub(super) fn text(&self, address: &str, tick: &mut dyn FnMut() -> Result<()>) -> Result<String> {
        let mut patience = Patience::default();
        loop {
            let text = self.get(address, 0).and_then(|mut response| {
                let text = response.body_mut().with_config().limit(LONGEST_TEXT).read_to_string();
                text.map_err(|error| self.connection(address, &error))
            });
            match text {
                Err(error) => patience.after(error, tick)?,
                text => return text,
            }
        }
    }

    /// Requests the bytes from `start` to the end.
    pub(super) fn get(&self, address: &str, start: u64) -> Result<Response<Body>> {
        let mut request = self.agent.get(address);
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", format!("Bearer {}", token.text));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| self.connection(address, &error))?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (address, status) = (address.to_string(), response.status().as_u16());
        match status {
            200 | 206 => match header("content-encoding").filter(|encoding| *encoding != "identity") {
                None => Ok(response),
                Some(encoding) => {
                    let reason = format!("it sends files packed (Content-Encoding: {encoding})");
                    Err(Error::BadAnswer { address, reason })
                }
            },
            401 | 403 => {
                let token = self.hub.token.as_ref().map(|token| token.from.clone());
                Err(Error::Denied { address, status, token, token_file: self.hub.token_file.clone() })
            }
            404 => Err(Error::NotFound { address }),
            407 => Err(Error::Connection {
                proxy: self.proxy(&address),
                address,
                reason: "the proxy asks for a name and a password".into(),
                trouble: Trouble::Network,
            }),
            _ => {
                let seconds = header("retry-after").and_then(|seconds| seconds.trim().parse().ok());
                Err(Error::Status { address, status, retry_after: seconds.map(Duration::from_secs) })
            }
        }
    }

    /// The error of a connection.
    pub(super) fn connection(&self, address: &str, error: &dyn std::fmt::Display) -> Error {
        let reason = error.to_string();
        let trouble = if reason.contains("certificate") {
            Trouble::Certificate
        } else if reason.contains("host not found") || reason.contains("lookup") {
            Trouble::Name
        } else {
            Trouble::Network
        };
        Error::Connection { address: address.into(), proxy: self.proxy(address), reason, trouble }
    }

    /// Host and port of the proxy on the way to `address`. Its name and password are nobody's business.
    fn proxy(&self, address: &str) -> Option<String> {
        let (proxy, uri) = (self.agent.config().proxy()?, address.parse().ok()?);
        (!proxy.is_no_proxy(&uri)).then(|| format!("{}:{}", proxy.host(), proxy.port()))
    }
}

/// The certificates in PEM files, and in all files of folders.
fn certificates(places: &[(&'static str, PathBuf)]) -> Result<Vec<Certificate<'static>>> {
    let mut certificates = Vec::new();
    for (variable, place) in places {
        let wrong = |problem: String| Error::Setting { name: (*variable).into(), problem };
        let unreadable = |error| wrong(format!("names `{}`, which cannot be read: {error}", place.display()));
        let before = certificates.len();
        for file in files(place).map_err(unreadable)? {
            let text = std::fs::read(&file).map_err(unreadable)?;
            let items = parse_pem(&text).flatten();
            certificates.extend(items.filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            }));
        }
        if certificates.len() == before {
            return Err(wrong(format!("names `{}`, which holds no certificate in PEM", place.display())));
        }
    }
    Ok(certificates)
}

fn files(place: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_path_buf()]);
    }
    let paths = std::fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

/// Counts attempts in a row that brought nothing, and waits after each.
#[derive(Default)]
pub(super) struct Patience(usize);

impl Patience {
    /// An attempt brought something.
    pub(super) fn restore(&mut self) {
        self.0 = 0;
    }

    /// Waits after an attempt that failed with `error`, as long as the hub asks for.
    ///
    /// # Errors
    /// `error` itself, if another attempt would not help or there were enough; an error of `tick`.
    pub(super) fn after(&mut self, error: Error, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let asked = match &error {
            Error::Connection { trouble: Trouble::Network, .. } => None,
            Error::Status { status: 408 | 429 | 500.., retry_after, .. } => *retry_after,
            _ => return Err(error),
        };
        let Some(usual) = WAITS.get(self.0) else { return Err(error) };
        if asked.is_some_and(|time| time > LONGEST_WAIT) {
            return Err(error);
        }
        self.0 += 1;
        wait(asked.unwrap_or(*usual), tick)
    }
}

fn wait(time: Duration, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let slice = Duration::from_millis(100);
    for _ in 0..time.as_millis() / slice.as_millis() {
        tick()?;
        std::thread::sleep(slice);
    }
    Ok(())
}
