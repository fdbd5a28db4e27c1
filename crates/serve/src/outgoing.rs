//! [`Client`]: the one way in which the server connects to addresses that others have given, for webhooks and pictures.
//!
//! A name is resolved once, every address that it has must be permitted, and those addresses are dialled: a name that leads
//! elsewhere a moment later changes nothing. Redirects are not followed, and no proxy is asked, which would resolve names
//! itself. Each request has a thread of its own, so that none blocks the runtime or keeps the server from ending.

use crate::config::{Outgoing, refusal};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::oneshot;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{Response, Uri};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// How long a delivery may take, with everything.
const DELIVERY: Duration = Duration::from_secs(20);
/// How long a picture may take.
const PICTURE: Duration = Duration::from_secs(10);
/// The longest picture, in bytes.
const MOST_PICTURE: u64 = 10 << 20;
/// The longest headers of an answer, in bytes.
const MOST_HEADERS: usize = 16 << 10;

/// Sends requests; copies share it.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
}

/// An answer to a delivery, of which the body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Seconds after which the receiver wants to be asked again.
    pub retry_after: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server does not connect to that address.
    Refused(String),
    /// It has tried.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

/// The error of an address that is not permitted.
#[derive(Debug, thiserror::Error)]
#[error("{}", refusal(*.0))]
struct Refused(IpAddr);

/// Finds the addresses of names, and lets none pass that is not permitted.
#[derive(Debug)]
struct Guarded {
    allowed: Outgoing,
    names: DefaultResolver,
}

impl Resolver for Guarded {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        match found.iter().find(|address| !self.allowed.permits(address.ip())) {
            Some(address) => Err(ureq::Error::Other(Box::new(Refused(address.ip())))),
            None => Ok(found),
        }
    }
}

impl Client {
    /// A client that connects to what `allowed` permits.
    pub fn new(allowed: &Outgoing) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .accept_encoding("identity")
            .user_agent(concat!("kinora/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(MOST_HEADERS)
            // A connection that the other side has closed meanwhile would look like a failure.
            .max_idle_connections(0)
            .timeout_global(Some(DELIVERY))
            .build();
        let resolver = Guarded { allowed: allowed.clone(), names: DefaultResolver::default() };
        Self { agent: Agent::with_parts(config, DefaultConnector::new(), resolver) }
    }

    /// Sends a body of JSON.
    ///
    /// # Errors
    /// An address that is not permitted, and no answer in time.
    pub async fn post(
        &self,
        url: String,
        headers: Vec<(&'static str, String)>,
        body: String,
    ) -> Result<Reply, Trouble> {
        let agent = self.agent.clone();
        on_a_thread(move || {
            let request = agent.post(&url).header("content-type", "application/json");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
            let response = request.send(body.as_bytes()).map_err(trouble)?;
            Ok(Reply { status: response.status().as_u16(), retry_after: retry_after(&response) })
        })
        .await
    }

    /// Fetches a picture, or what it is; nobody has looked at it yet. `turn` is held until the request is over, also if nobody
    /// waits for it any more.
    ///
    /// # Errors
    /// An address that is not permitted, an answer that is none of status 200 or too long, and none in time.
    pub async fn picture(&self, url: String, turn: impl Send + 'static) -> Result<Vec<u8>, Trouble> {
        let agent = self.agent.clone();
        on_a_thread(move || {
            let _turn = turn;
            let request = agent.get(&url).config().timeout_global(Some(PICTURE)).build();
            let mut response = request.call().map_err(trouble)?;
            if response.status().as_u16() != 200 {
                return Err(Trouble::Failed(answered(response.status().as_u16())));
            }
            response.body_mut().with_config().limit(MOST_PICTURE).read_to_vec().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => {
                    Trouble::Failed(format!("the picture has more than {MOST_PICTURE} bytes"))
                }
                other => trouble(other),
            })
        })
        .await
    }
}

/// Says an answer that is none of those wanted.
pub fn answered(status: u16) -> String {
    let more = if (300..400).contains(&status) { ", and redirects are not followed" } else { "" };
    format!("the answer was HTTP {status}{more}")
}

fn retry_after<T>(response: &Response<T>) -> Option<u64> {
    response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn trouble(error: ureq::Error) -> Trouble {
    match &error {
        ureq::Error::Other(other) if other.is::<Refused>() => Trouble::Refused(other.to_string()),
        other => Trouble::Failed(other.to_string()),
    }
}

/// Runs `work` on a thread that nobody waits for when the server ends.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (sender, answer) = oneshot::channel();
    let started = std::thread::Builder::new().name("outgoing".into()).spawn(move || {
        let _ = sender.send(work()); // whoever asked may be gone
    });
    started.map_err(|error| Trouble::Failed(error.to_string()))?;
    answer.await.unwrap_or_else(|_| Err(Trouble::Failed("the request ended without an answer".into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn client(networks: &[&str]) -> Client {
        let allowed_networks = networks.iter().map(|text| text.parse().expect("a network")).collect();
        Client::new(&Outgoing { fetch_pictures: true, allowed_networks })
    }

    /// Answers one request after the other with `answer`, and counts them.
    fn receiver(answer: &'static str) -> (u16, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, received) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mut stream, mut start) = (stream, [0; 4096]);
                let read = stream.read(&mut start).unwrap_or(0);
                let _ = sender.send(String::from_utf8_lossy(&start[..read]).into_owned());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (port, received)
    }

    #[tokio::test]
    async fn names_of_this_machine_are_refused_whatever_they_are() {
        let (port, received) = receiver("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"] {
            let url = format!("http://{host}:{port}/");
            let sent = client(&["10.0.0.0/8"]).post(url.clone(), Vec::new(), "{}".into()).await;
            assert!(
                matches!(&sent, Err(Trouble::Refused(what)) if what.contains("is not a public address")),
                "{sent:?}"
            );
            assert!(matches!(client(&[]).picture(url, ()).await, Err(Trouble::Refused(_))), "{host}");
        }
        assert!(received.try_recv().is_err(), "nobody was asked");
        let allowed = client(&["127.0.0.0/8", "::1"]);
        let sent = allowed.post(format!("http://localhost:{port}/a"), Vec::new(), "{}".into());
        assert_eq!(sent.await, Ok(Reply { status: 200, retry_after: None }));
        let request = received.recv().expect("a request");
        assert!(
            request.starts_with("POST /a HTTP/1.1\r\n") && request.contains("content-type: application/json"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn redirects_are_not_followed_and_long_answers_end() {
        let (other, followed) = receiver("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
        );
        let (port, _received) = receiver(answer.leak());
        let client = client(&["127.0.0.1"]);
        let url = format!("http://127.0.0.1:{port}/");
        let sent = client.post(url.clone(), Vec::new(), "{}".into()).await;
        assert_eq!(sent, Ok(Reply { status: 302, retry_after: Some(7) }));
        let fetched = client.picture(url, ()).await;
        assert_eq!(fetched, Err(Trouble::Failed("the answer was HTTP 302, and redirects are not followed".into())));
        assert!(followed.try_recv().is_err(), "nobody was asked there");
        for (more, is_too_long) in [(0, false), (1, true)] {
            let length = MOST_PICTURE as usize + more;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
            let (port, _received) = receiver(answer.leak());
            let fetched = client.picture(format!("http://127.0.0.1:{port}/"), ()).await;
            let too_long = Trouble::Failed(format!("the picture has more than {MOST_PICTURE} bytes"));
            let expected = if is_too_long { Err(too_long) } else { Ok(length) };
            assert_eq!(fetched.map(|bytes| bytes.len()), expected);
        }
    }

    #[tokio::test]
    async fn a_fetch_has_its_turn_until_it_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let (client, turn) = (client(&["127.0.0.1"]), std::sync::Arc::new(()));
        let own = std::sync::Arc::clone(&turn);
        let fetch = tokio::spawn(async move { client.picture(url, own).await });
        let (stream, _) =
            tokio::task::spawn_blocking(move || listener.accept()).await.expect("it").expect("a connection");
        fetch.abort();
        assert!(fetch.await.is_err(), "nobody waits for it");
        assert_eq!(std::sync::Arc::strong_count(&turn), 2, "its thread is there");
        drop(stream);
    }
}
