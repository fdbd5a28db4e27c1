//! Keys, sessions and tokens that are over. What they have opened, a stream of events or a long download, ends with them: at its
//! time, or within a moment after a key is revoked, or a secret replaced that has signed.

use crate::app::{App, now};
use crate::guard::Caller;
use crate::store::keys::{self, Grants};
use axum::body::Body;
use futures_util::stream::{self, StreamExt};
use std::future::{self, Future};
use std::pin::Pin;
use std::time::Duration;

/// How often the store is asked: keys are changed by another process.
const EVERY: Duration = Duration::from_millis(250);

/// The end of what a caller may do.
pub type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps up with the keys, until the server ends.
pub async fn watch(app: App) {
    let mut ending = app.ending.subscribe();
    loop {
        let read = app.store.read(keys::grants);
        if let Ok(keys) = read.await {
            app.keys.send_if_modified(|known| {
                let is_new = *known != keys;
                *known = keys;
                is_new
            });
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = ending.changed() => return,
        }
    }
}

/// Returns when what the caller was let in with is over; without a key, when there are keys.
pub fn over(app: &App, caller: Caller) -> Over {
    let mut keys = app.keys.subscribe();
    Box::pin(async move {
        let is_over = |keys: &Grants| match &caller.key {
            Some(key) => keys.are_over(key, caller.signed),
            None => !keys.is_empty(),
        };
        let late = async {
            match caller.until {
                Some(until) => {
                    let left = u64::try_from(until - now()).unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
                None => future::pending().await,
            }
        };
        let replaced = async {
            let is_gone = keys.wait_for(is_over).await.is_err();
            if is_gone {
                future::pending::<()>().await; // the server ends
            }
        };
        tokio::select! {
            () = replaced => {}
            () = late => {}
        }
    })
}

/// The body, which breaks off when its reader's key is over.
pub fn cut(body: Body, over: Over) -> Body {
    Body::from_stream(stream::try_unfold((body.into_data_stream(), over), |(mut pieces, mut over)| async move {
        tokio::select! {
            piece = pieces.next() => Ok(piece.transpose()?.map(|piece| (piece, (pieces, over)))),
            () = &mut over => Err(axum::Error::new(std::io::Error::other("the key is over"))),
        }
    }))
}
