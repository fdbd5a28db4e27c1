//! Connections: how many there may be, and how long one may be silent.

use crate::fault::Fault;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io::{self, IoSlice, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;

/// How long the head of a request may take, and how long a connection may wait for the next one.
const HEAD: Duration = Duration::from_secs(15);
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// How long a client may read nothing of an answer.
const READING: Duration = Duration::from_mins(2);
/// The pause after the system had no connection to give.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers on at most `most` connections until `ending`; then answers what is under way, and returns.
pub async fn serve(listener: TcpListener, router: Router, most: u32, mut ending: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(most as usize));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        let Ok((stream, _)) = accepted else {
            // The client has gone again, or there are no more descriptors.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(connection(stream, router.clone(), ending.clone(), place))),
            Err(_) => refuse(stream),
        }
    }
    drop(listener);
    let _ = places.acquire_many(most).await; // every connection has given its place back
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut ending: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true); // events are small, and wait for nothing
    let io = TokioIo::new(Read { stream, stalled: None });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut served = pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

/// Says that there are too many connections. The few bytes fit into what the system keeps for a new one.
fn refuse(stream: TcpStream) {
    let fault = Fault::busy();
    let body = fault.json().to_string();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: {}\r\nConnection: close\r\n\r\n",
        body.len(),
        fault.retry_after.unwrap_or_default(),
    );
    let _ = stream.into_std().and_then(|mut stream| stream.write_all((head + &body).as_bytes()));
}

/// A connection whose client reads: one that does not is closed.
struct Read<T> {
    stream: T,
    /// Since nothing more could be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Read<T> {
    fn judged<R>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(READING)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Read<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Read<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judged(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judged(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.judged(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Lets the process have as many open files as the system allows it: each connection is one.
#[cfg(unix)]
pub fn allow_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it there are fewer connections, which is said to those who come too late.
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub fn allow_files() {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_left() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = Read { stream: near, stalled: None };
        near.write_all(&[0; 10]).await.expect("it fits");
        let writing = tokio::spawn(async move { near.write_all(&[0; 30]).await.map_err(|error| error.kind()) });
        for _ in 0..2 {
            tokio::time::sleep(READING / 2).await;
            far.read_exact(&mut [0; 10]).await.expect("bytes");
        }
        tokio::time::sleep(READING / 2).await;
        assert!(!writing.is_finished(), "it reads, slowly");
        assert_eq!(writing.await.expect("no panic"), Err(io::ErrorKind::TimedOut));
    }
}
